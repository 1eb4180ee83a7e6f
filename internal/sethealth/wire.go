package sethealth

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sethealth/tokenvend/internal/secret"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// question is the body of POST /token, in the order in which its fields are sent. It holds revealed
// credentials: it is marshalled at once and never kept.
type question struct {
	ID        string `json:"id"`
	Secret    string `json:"secret"`
	UserID    string `json:"user-id,omitempty"`
	ExpiresIn int64  `json:"expires-in,omitempty"` // nanoseconds, as Sethealth's own clients send it
	TestMode  bool   `json:"test-mode"`
}

// encodeQuestion is the request body for one user. An empty userID and a zero ttl are left out.
func encodeQuestion(pair Pair, userID string, ttl time.Duration, testMode bool) ([]byte, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	err := enc.Encode(question{
		ID:        pair.Key.Reveal(),
		Secret:    pair.Secret.Reveal(),
		UserID:    userID,
		ExpiresIn: ttl.Nanoseconds(),
		TestMode:  testMode,
	})
	return bytes.TrimSuffix(body.Bytes(), []byte("\n")), err
}

// The ways in which an answer is of no use. None of them quotes it.
var (
	errTooLarge  = errors.New("more than 64 KiB")
	errNotJSON   = errors.New("not a JSON object")
	errDuplicate = errors.New("more than one token")
	errNoToken   = errors.New("no token")
	errBadToken  = errors.New("the token is not a plain string")
	errExpired   = errors.New("the token has already expired")
)

// DecodeAnswer takes the token out of the body of a 200: a JSON object, and nothing after it, whose one
// field "token" is a non-empty string without white space or control characters.
func DecodeAnswer(body []byte) (secret.Value, error) {
	if len(body) > maxAnswer {
		return secret.Value{}, errTooLarge
	}
	if !utf8.Valid(body) {
		return secret.Value{}, errNotJSON
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return secret.Value{}, errNotJSON
	}
	// By hand, because json.Unmarshal would take "Token" for "token" and the last of two for both.
	var found secret.Value
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return secret.Value{}, errNotJSON
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return secret.Value{}, errNotJSON
		}
		if name != "token" {
			continue
		}
		if !found.IsZero() {
			return secret.Value{}, errDuplicate
		}
		if found, err = plainString(value); err != nil {
			return secret.Value{}, err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return secret.Value{}, errNotJSON
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return secret.Value{}, errNotJSON
	}
	if found.IsZero() {
		return secret.Value{}, errNoToken
	}
	return found, nil
}

func plainString(value any) (secret.Value, error) {
	s, _ := value.(string)
	// The replacement character is what half a surrogate pair decodes to: not what was sent.
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError }
	if s == "" || strings.IndexFunc(s, bad) >= 0 {
		return secret.Value{}, errBadToken
	}
	return secret.New(s), nil
}

// newToken is the answer's token with its honest end: the earlier of start + ttl and its own exp. A
// zero ttl asks for a life that only Sethealth knows.
func newToken(value secret.Value, start time.Time, ttl time.Duration, account string) (Token, error) {
	sum := sha256.Sum256([]byte(value.Reveal()))
	token := Token{Value: value, Hash: hex.EncodeToString(sum[:8]), Account: account, Source: Minted}
	if ttl > 0 {
		token.Expires = start.Add(ttl)
	}
	if exp, ok := JWTExpiry(value); ok {
		// Told from start, so that the end carries the monotonic clock too; see Token.Life.
		own := start.Add(exp.Sub(start))
		if token.Expires.IsZero() || own.Before(token.Expires) {
			token.Expires = own
		}
	}
	if !token.Expires.IsZero() && token.Life(time.Now()) <= 0 {
		return Token{}, errExpired
	}
	return token, nil
}

// JWTExpiry is the exp claim (RFC 7519, section 4.1.4) of a token that is a signed JWT and has one. The
// signature is Sethealth's business: a token that is anything else just has no expiry of its own.
func JWTExpiry(token secret.Value) (time.Time, bool) {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return time.Time{}, false
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(payload, &claims) != nil {
		return time.Time{}, false
	}
	var exp *float64
	if json.Unmarshal(claims["exp"], &exp) != nil || exp == nil {
		return time.Time{}, false
	}
	// The range that RFC 3339 can write, years 1 to 9999; a claim beyond it limits nothing or is noise.
	if *exp <= 0 || *exp >= 253402300800 {
		return time.Time{}, false
	}
	return time.Unix(int64(math.Floor(*exp)), 0), true
}

// RetryAfter reads a Retry-After (RFC 9110, section 10.2.3): whole seconds, or a date, which is held
// against the answer's own Date so that the two clocks need not agree. Garbage is no Retry-After.
func RetryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > math.MaxInt64/int64(time.Second) {
			return math.MaxInt64, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	return max(0, at.Sub(now)), true
}

// UserID is what Sethealth is told about the user, as in TOKEN_USER_ID.
type UserID string

// What Sethealth may be told.
const (
	Subject UserID = "subject" // the user as the session check names it
	Hashed  UserID = "hashed"  // Credentials.Pseudonym of it
	None    UserID = "none"    // nothing
)

// ParseUserID reads one of the three words; "" is Subject.
func ParseUserID(word string) (UserID, error) {
	switch id := UserID(word); id {
	case "":
		return Subject, nil
	case Subject, Hashed, None:
		return id, nil
	default:
		return "", fmt.Errorf("sethealth: the user id must be %s, %s or %s", Subject, Hashed, None)
	}
}
