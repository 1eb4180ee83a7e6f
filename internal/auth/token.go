package auth

import (
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/strictjson"
)

const (
	maxHeader = 4 << 10
	// maxSeconds is in the year 5138: a larger time can only be meant in milliseconds.
	maxSeconds = 100_000_000_000
)

// token is a JWT whose form is good. Its claims are the caller's until the signature has been verified.
type token struct {
	signed    *jose.JSONWebSignature
	algorithm jose.SignatureAlgorithm
	keyID     string
	claims    map[string]any
}

// parse looks at form and header.
func (j *jwtCheck) parse(compact string) (*token, error) {
	parts := strings.SplitN(compact, ".", 4)
	if len(parts) != 3 {
		return nil, unauthenticated("not a signed JWT in compact form")
	}
	header, err := decodePart(parts[0])
	if err != nil || len(parts[0]) > base64.RawURLEncoding.EncodedLen(maxHeader) {
		return nil, unauthenticated("the JWT's header is malformed or longer than 4 KiB")
	}
	if err := j.checkHeader(header); err != nil {
		return nil, err
	}
	t := &token{}
	if t.claims, err = decodePart(parts[1]); err != nil {
		return nil, unauthenticated("the JWT's claims are malformed")
	}
	if _, err := strictBase64(parts[2]); err != nil {
		return nil, unauthenticated("the JWT's signature is malformed")
	}
	if t.signed, err = jose.ParseSignedCompact(compact, j.allowedAlgorithms); err != nil {
		return nil, unauthenticated("not a signed JWT")
	}
	t.algorithm = jose.SignatureAlgorithm(t.signed.Signatures[0].Header.Algorithm)
	t.keyID = t.signed.Signatures[0].Header.KeyID
	return t, nil
}

// checkHeader refuses what go-jose accepts: critical extensions that it knows (b64), members that are null,
// and tokens of another type (RFC 8725, section 3.11). It follows nothing that a header points to.
func (j *jwtCheck) checkHeader(header map[string]any) error {
	for _, name := range []string{"crit", "b64", "enc", "zip"} {
		if _, there := header[name]; there {
			return unauthenticated("the JWT's header asks for an extension (" + name + ")")
		}
	}
	algorithm, _ := header["alg"].(string)
	if !slices.Contains(j.allowedAlgorithms, jose.SignatureAlgorithm(algorithm)) {
		return unauthenticated("algorithm is not one of JWT_ALGORITHMS")
	}
	kind, there := header["typ"]
	name, _ := kind.(string)
	isAccepted := func(accepted string) bool { return strings.EqualFold(name, accepted) }
	if there && !slices.ContainsFunc([]string{"JWT", "at+jwt", "application/at+jwt"}, isAccepted) {
		return unauthenticated("token of another type (typ): neither JWT nor at+jwt")
	}
	return nil
}

// decodePart reads the JSON of one part.
func decodePart(part string) (map[string]any, error) {
	text, err := strictBase64(part)
	if err != nil {
		return nil, err
	}
	return strictjson.Object(text)
}

// strictBase64 leaves no second spelling of one token: the decoder alone would skip line breaks.
func strictBase64(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return base64.RawURLEncoding.Strict().DecodeString(part)
}

// readClaims checks the registered claims and finds the user. The token is good until end.
func (j *jwtCheck) readClaims(claims map[string]any, now time.Time) (id Identity, end time.Time, err error) {
	iss, isString := claims["iss"].(string)
	switch {
	case claims["iss"] != nil && !isString:
		return id, end, unauthenticated("issuer (iss) is not a string")
	case j.issuerOf(iss) == nil:
		return id, end, unauthenticated("issuer (iss) is not one of JWT_ISSUER")
	case claims["cnf"] != nil:
		return id, end, unauthenticated("token is bound to its sender (cnf), so it is not a bearer token")
	}
	if err := j.checkAudience(claims["aud"]); err != nil {
		return id, end, err
	}
	if end, err = j.checkTimes(claims, now); err != nil {
		return id, end, err
	}
	value, _ := lookup(claims, j.SubjectClaim)
	name, err := parseName(value)
	if err != nil {
		return id, end, unauthenticated("user in claim " + j.SubjectClaim + " (JWT_SUBJECT_CLAIM) " + err.Error())
	}
	return Identity{Check: "jwt", Issuer: iss, Name: name}, end, nil
}

func (j *jwtCheck) checkAudience(aud any) error {
	if j.Audience[0] == anyAudience {
		return nil
	}
	all, isList := aud.([]any)
	if !isList {
		all = []any{aud}
	}
	named := false
	for _, one := range all {
		name, isString := one.(string)
		if !isString {
			named = false
			break
		}
		named = named || slices.Contains(j.Audience, name)
	}
	if named {
		return nil
	}
	if aud == nil {
		return unauthenticated("audience (aud) is missing; JWT_AUDIENCE=any is for providers that set none")
	}
	return unauthenticated("audience (aud) is not one of JWT_AUDIENCE")
}

func (j *jwtCheck) checkTimes(claims map[string]any, now time.Time) (end time.Time, err error) {
	for _, name := range []string{"exp", "nbf", "iat"} {
		at, there, err := numericDate(claims, name)
		switch {
		case err != nil:
			return end, err
		case name == "exp" && !there:
			return end, unauthenticated("exp is missing")
		case name == "exp":
			if end = at.Add(j.Leeway); !now.Before(end) {
				return end, unauthenticated("token expired (exp; JWT_LEEWAY for clocks that differ)")
			}
		case there && now.Add(j.Leeway).Before(at):
			return end, unauthenticated("token is not yet valid (" + name + "; JWT_LEEWAY for clocks that differ)")
		}
	}
	return end, nil
}

// numericDate reads seconds since 1970, possibly with a fraction (RFC 7519, section 2).
func numericDate(claims map[string]any, name string) (at time.Time, there bool, err error) {
	if claims[name] == nil {
		return at, false, nil
	}
	number, ok := claims[name].(strictjson.Number)
	seconds, err := strconv.ParseFloat(string(number), 64)
	switch {
	case !ok, err != nil, seconds < 0:
		return at, true, unauthenticated(name + " is not a number of seconds since 1970")
	case seconds > maxSeconds:
		return at, true, unauthenticated(name + " is too far away: it can only be meant in milliseconds, and must be in seconds")
	}
	return time.UnixMicro(int64(seconds * 1e6)), true, nil
}
