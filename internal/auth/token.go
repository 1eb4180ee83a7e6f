package auth

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/strictjson"
)

const (
	maxHeader = 4 << 10
	// maxSeconds is in the year 5138: a larger time must be in milliseconds.
	maxSeconds = 100_000_000_000
)

// token is a well-formed JWT. Its claims are not to be trusted until the signature has been verified.
type token struct {
	jose.Signature // header and signature
	signed         *jose.JSONWebSignature
	claims         members
}

// parse checks the form and the header.
func (j *jwtCheck) parse(compact string) (*token, error) {
	parts := strings.SplitN(compact, ".", 4)
	if len(parts) != 3 {
		return nil, unauthenticated("not a signed JWT in compact form")
	}
	header, badHeader := decodePart(parts[0])
	claims, badClaims := decodePart(parts[1])
	_, badSignature := strictBase64(parts[2])
	if errors.Join(badHeader, badClaims, badSignature) != nil || len(parts[0]) > base64.RawURLEncoding.EncodedLen(maxHeader) {
		return nil, unauthenticated("JWT is malformed, or its header is longer than 4 KiB")
	}
	if err := j.checkHeader(header); err != nil {
		return nil, err
	}
	signed, err := jose.ParseSignedCompact(compact, j.allowed)
	if err != nil {
		return nil, unauthenticated("JWT is malformed")
	}
	return &token{signed.Signatures[0], signed, claims}, nil
}

// checkHeader refuses what go-jose accepts: critical extensions that it knows (b64), members that are null, and
// tokens of another type (RFC 8725, section 3.11). Nothing that a header points to is fetched.
func (j *jwtCheck) checkHeader(header members) error {
	for _, name := range []string{"crit", "b64", "enc", "zip"} {
		if _, there := header[name]; there {
			return unauthenticated("the JWT's header asks for an extension (" + name + ")")
		}
	}
	algorithm, _ := header["alg"].(string)
	if !slices.Contains(j.allowed, jose.SignatureAlgorithm(algorithm)) {
		return unauthenticated("algorithm is not one of JWT_ALGORITHMS")
	}
	kind, there := header["typ"]
	name, _ := kind.(string)
	if there && !slices.Contains([]string{"jwt", "at+jwt", "application/at+jwt"}, strings.ToLower(name)) {
		return unauthenticated("token type (typ) is neither JWT nor at+jwt")
	}
	return nil
}

// decodePart reads the JSON of one part.
func decodePart(part string) (members, error) {
	text, err := strictBase64(part)
	if err != nil {
		return nil, err
	}
	return strictjson.Object(text)
}

// strictBase64 accepts only one encoding of a token: the decoder alone would skip line breaks.
func strictBase64(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return base64.RawURLEncoding.Strict().DecodeString(part)
}

// readClaims checks the registered claims, and returns the user and until when the token is valid.
func (j *jwtCheck) readClaims(claims members, now time.Time) (id Identity, end time.Time, err error) {
	iss, isString := claims["iss"].(string)
	switch {
	case claims["iss"] != nil && !isString:
		return id, end, unauthenticated("issuer (iss) is not a string")
	case j.issuerOf(iss) == nil:
		return id, end, unauthenticated("issuer (iss) is not one of JWT_ISSUER")
	}
	if err := claims.checkUnbound(); err != nil {
		return id, end, err
	}
	if named, _ := claims.audience(j.Audience...); !named && j.Audience[0] != anyAudience {
		if claims["aud"] == nil {
			return id, end, unauthenticated("audience (aud) is missing; JWT_AUDIENCE=any is for providers that set none")
		}
		return id, end, unauthenticated("audience (aud) is not one of JWT_AUDIENCE")
	}
	if end, err = j.checkTimes(claims, now); err != nil {
		return id, end, err
	}
	value, _ := claims.lookup(j.SubjectClaim)
	name, err := userIn(value, "claim "+j.SubjectClaim+" (JWT_SUBJECT_CLAIM)", unauthenticated)
	return Identity{Check: "jwt", Issuer: iss, Name: name}, end, err
}

func (j *jwtCheck) checkTimes(claims members, now time.Time) (end time.Time, err error) {
	for _, name := range []string{"exp", "nbf", "iat"} {
		at, ok := claims.time(name)
		switch {
		case claims[name] == nil && name == "exp":
			return end, unauthenticated("exp is missing")
		case claims[name] == nil:
		case !ok, at.Unix() < 0:
			return end, unauthenticated(name + " is not a number of seconds since 1970")
		case at.Unix() > maxSeconds:
			return end, unauthenticated(name + " is too large: it must be in seconds, and seems to be in milliseconds")
		case name == "exp":
			if end = at.Add(j.Leeway); !now.Before(end) {
				return end, unauthenticated("token expired (exp; JWT_LEEWAY for clocks that differ)")
			}
		case now.Add(j.Leeway).Before(at):
			return end, unauthenticated("token is not yet valid (" + name + "; JWT_LEEWAY for clocks that differ)")
		}
	}
	return end, nil
}
