package sethealth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 64 << 10

// tokenRequest is the body of POST /token, in the order in which its members are sent. It holds revealed
// credentials: marshal it at once and do not keep it.
type tokenRequest struct {
	ID        string `json:"id"`
	Secret    string `json:"secret"`
	UserID    string `json:"user-id,omitempty"`
	ExpiresIn int64  `json:"expires-in,omitempty"` // nanoseconds, as Sethealth's own clients send it
	TestMode  bool   `json:"test-mode"`
}

// encodeRequest returns the request body for a user.
func encodeRequest(c Config, account pair, user User) []byte {
	r := tokenRequest{
		ID: account.key.Reveal(), Secret: account.secret.Reveal(),
		ExpiresIn: c.TTL.Nanoseconds(), TestMode: c.TestMode,
	}
	switch c.UserID {
	case userSubject:
		r.UserID = user.Name
	case userHashed:
		r.UserID = pseudonym(account.secret, user)
	}
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	_ = e.Encode(r) // never fails on strings, numbers and booleans
	return bytes.TrimSuffix(body.Bytes(), []byte("\n"))
}

// decodeToken reads the token from the body of a 200 to a request sent at start. The token expires at the
// earlier of start + ttl and its own exp; with a zero ttl Sethealth chooses the lifetime. The error does not
// quote the body.
func decodeToken(body []byte, start time.Time, ttl time.Duration) (Token, error) {
	answer, err := strictjson.Object(body)
	if err != nil {
		return Token{}, unusable("not a JSON object")
	}
	value, _ := answer["token"].(string)
	if value == "" || strings.ContainsFunc(value, isNotPlain) {
		return Token{}, unusable("no token that is a plain string")
	}
	token := Token{Value: secret.New(value), ID: shortHash(value), Source: Minted}
	if ttl > 0 {
		token.Expires = start.Round(0).Add(ttl)
	}
	if exp := jwtExpiry(value); !exp.IsZero() && (token.Expires.IsZero() || exp.Before(token.Expires)) {
		token.Expires = exp
	}
	if !token.Expires.IsZero() && token.Remaining(time.Now()) <= 0 {
		return Token{}, unusable("the token has already expired")
	}
	return token, nil
}

func isNotPlain(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// jwtExpiry returns the exp claim (RFC 7519, section 4.1.4) of a token that is a signed JWT and has one, else
// zero. Only Sethealth can verify the signature.
func jwtExpiry(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}
	}
	claims, err := strictjson.Object(payload)
	if err != nil {
		return time.Time{}
	}
	number, _ := claims["exp"].(strictjson.Number)
	exp, err := number.Float64()
	// Only the years 1970 to 9999, which RFC 3339 can express.
	if err != nil || exp <= 0 || exp >= 253402300800 {
		return time.Time{}
	}
	return time.Unix(int64(exp), 0)
}

// parseRetryAfter reads Retry-After (RFC 9110, section 10.2.3): seconds or a date. Anything else means no wait.
func parseRetryAfter(value string) time.Duration {
	// An overflow yields the largest number of 32 bits, which is longer than any time-out.
	seconds, err := strconv.ParseUint(value, 10, 32)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return time.Until(at)
	}
	return 0
}
