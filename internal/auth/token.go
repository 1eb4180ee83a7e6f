package auth

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// RequiredClaim is one pair of JWT_REQUIRED_CLAIMS.
type RequiredClaim struct{ Name, Value string }

// These bound the members and elements of a header and of claims, counted by their punctuation. Each
// costs a parser far more than its length, and whoever sends them need not have signed anything.
const (
	maxHeaderItems = 64
	maxClaimItems  = 2048
)

// token is a JWT whose form is good. Its claims may be believed only after signedByOneOf has said yes.
type token struct {
	jwt       *jwt.JSONWebToken
	payload   string
	algorithm jose.SignatureAlgorithm
	keyID     string
	claims    map[string]any // nil if the registered ones were enough
	subject   string
	end       time.Time // exp with the leeway; at this moment the token is bad
}

// parse looks at form and header.
func (j *JWT) parse(compact string) (*token, error) {
	if !isCompact(compact) {
		return nil, unauthenticated("not a JWT in compact form")
	}
	header, rest, _ := strings.Cut(compact, ".")
	if err := checkHeader(header); err != nil {
		return nil, err
	}
	parsed, err := jwt.ParseSigned(compact, j.algorithms)
	if err != nil {
		return nil, unauthenticated("not a JWT of an allowed algorithm")
	}
	t := &token{jwt: parsed, algorithm: jose.SignatureAlgorithm(parsed.Headers[0].Algorithm), keyID: parsed.Headers[0].KeyID}
	t.payload, _, _ = strings.Cut(rest, ".")
	return t, nil
}

// readClaims checks the claims and takes out what is needed of them. They are those that the signature
// is over, whether it has been verified yet or not.
func (j *JWT) readClaims(t *token, now time.Time) error {
	raw, err := decodeBounded(t.payload, maxClaimItems)
	if err != nil {
		return err
	}
	var standard struct { // jti is left out: it may be of any type, and so may sub where it is not used
		Subject   any              `json:"sub"`
		Issuer    string           `json:"iss"`
		Audience  jwt.Audience     `json:"aud"`
		Expiry    *jwt.NumericDate `json:"exp"`
		NotBefore *jwt.NumericDate `json:"nbf"`
		IssuedAt  *jwt.NumericDate `json:"iat"`
	}
	wanted := []any{&standard}
	// A map takes as long again. It is also what finds a name that is there twice within another claim.
	nested := bytes.Count(raw, []byte("{")) > 1
	if j.subject != "sub" || len(j.required) > 0 || nested {
		t.claims = nil
		wanted = append(wanted, &t.claims)
	}
	if err := t.jwt.UnsafeClaimsWithoutVerification(wanted...); err != nil {
		return unauthenticated("malformed claims")
	}
	if standard.Expiry == nil {
		return unauthenticated("token without exp")
	}
	t.end = standard.Expiry.Time().Add(j.leeway)
	if !now.Before(t.end) {
		return unauthenticated("token expired")
	}
	claims := jwt.Claims{
		Issuer: standard.Issuer, Audience: standard.Audience,
		NotBefore: standard.NotBefore, IssuedAt: standard.IssuedAt,
	}
	expected := jwt.Expected{Issuer: j.issuer, AnyAudience: j.audiences, Time: now}
	if err := claims.ValidateWithLeeway(expected, j.leeway); err != nil {
		return unauthenticated("token of another issuer, audience or time")
	}
	subject := standard.Subject
	if j.subject != "sub" {
		subject = t.claims[j.subject]
	}
	if t.subject, _ = subject.(string); !ValidSubject(t.subject) {
		return unauthenticated("token names no valid user")
	}
	return nil
}

// decodeBounded decodes one part, and refuses it if it holds more than that many items.
func decodeBounded(part string, maxItems int) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil || !utf8.Valid(raw) { // RFC 7515, section 5.2, and RFC 7519, section 7.2
		return nil, unauthenticated("malformed header or claims")
	}
	for _, c := range raw {
		if c == '{' || c == '[' || c == ',' {
			maxItems--
		}
	}
	if maxItems < 0 {
		return nil, unauthenticated("header or claims of too many items")
	}
	return raw, nil
}

// isCompact reports whether s is three parts of canonical base64url without padding. It runs before
// anything is allocated, and leaves no second spelling of one token.
func isCompact(s string) bool {
	parts := 0
	for part := range strings.SplitSeq(s, ".") {
		if parts++; parts > 3 || !isCanonical(part) {
			return false
		}
	}
	return parts == 3
}

func isCanonical(part string) bool {
	for i := range len(part) {
		if !isBase64URL(part[i]) {
			return false
		}
	}
	switch len(part) % 4 { // the bits of the last character that no byte needs must be zero
	case 0:
		return part != ""
	case 2:
		return strings.IndexByte("AQgw", part[len(part)-1]) >= 0
	case 3:
		return strings.IndexByte("AEIMQUYcgkosw048", part[len(part)-1]) >= 0
	default:
		return false
	}
}

// checkHeader refuses what go-jose lets pass: critical extensions that it knows (b64), members that are
// null, and tokens of another type (RFC 8725, section 3.11).
func checkHeader(part string) error {
	raw, err := decodeBounded(part, maxHeaderItems)
	if err != nil {
		return err
	}
	var header map[string]any
	if json.Unmarshal(raw, &header) != nil {
		return unauthenticated("malformed header")
	}
	for _, name := range []string{"crit", "b64", "enc", "zip"} {
		if _, there := header[name]; there {
			return unauthenticated("header asks for an extension")
		}
	}
	kind, there := header["typ"]
	if !there {
		return nil
	}
	name, _ := kind.(string)
	for _, allowed := range []string{"JWT", "at+jwt", "application/at+jwt"} {
		if strings.EqualFold(name, allowed) {
			return nil
		}
	}
	return unauthenticated("token of another type")
}

func (t *token) signedByOneOf(keys []key) error {
	for _, k := range keys {
		if t.jwt.Claims(k.material) == nil {
			return nil
		}
	}
	return unauthenticated("signature is not valid")
}

// satisfies reports whether the token has every required claim; call it on a verified token only.
func (t *token) satisfies(required []RequiredClaim) error {
	for _, want := range required {
		if !holds(t.claims[want.Name], want) {
			return forbidden("required claim is missing")
		}
	}
	return nil
}

func holds(claim any, want RequiredClaim) bool {
	switch claim := claim.(type) {
	case string:
		return claim == want.Value ||
			want.Name == "scope" && slices.Contains(strings.Fields(claim), want.Value)
	case []any:
		return slices.Contains(claim, any(want.Value))
	default:
		return false
	}
}
