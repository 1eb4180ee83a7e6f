package emulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// defaultLife is that of a token that was asked for without expires-in.
const defaultLife = time.Hour

// Claims are what a token of the emulator stands for.
type Claims struct {
	User     string    `json:"user"`
	Expires  time.Time `json:"expires"`
	TestMode bool      `json:"test_mode"`
	Number   int       `json:"number"` // counts tokens, so that all of those issued until now can be revoked
}

// Status is what became of a token.
type Status string

// The statuses.
const (
	Valid   Status = "valid"
	Expired Status = "expired"
	Revoked Status = "revoked"
	Unknown Status = "unknown" // changed, or not of this Emulator
)

// tokens are sealed claims, so that none needs to be remembered.
type tokens struct {
	seal cipher.AEAD

	mu             sync.Mutex
	issued         int
	revokedThrough int // the number of the last token that is
}

func newTokens() *tokens {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // only for a key of another length
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for another cipher
	}
	return &tokens{seal: seal}
}

// issue makes a token. With a jwtLife it is a JWT with an exp, whose signature is the opaque token.
func (t *tokens) issue(r tokenRequest, jwtLife time.Duration) string {
	life := r.ExpiresIn
	if life == 0 {
		life = defaultLife
	}
	if jwtLife != 0 {
		life = min(life, jwtLife)
	}
	t.mu.Lock()
	t.issued++
	claims := Claims{User: r.UserID, Expires: time.Now().Add(life), TestMode: r.TestMode, Number: t.issued}
	t.mu.Unlock()
	token := encode(t.seal.Seal(nil, nil, marshal(claims), nil))
	if jwtLife == 0 {
		return token
	}
	exp := map[string]int64{"exp": time.Now().Add(jwtLife).Unix()}
	return encode(marshal(map[string]string{"alg": "emulated"})) + "." + encode(marshal(exp)) + "." + token
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and times
	}
	return b
}

func (t *tokens) check(token string) (Claims, Status) {
	claims, ok := t.open(token)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !ok:
		return Claims{}, Unknown
	case claims.Number <= t.revokedThrough:
		return claims, Revoked
	case !time.Now().Before(claims.Expires):
		return claims, Expired
	default:
		return claims, Valid
	}
}

func (t *tokens) open(token string) (c Claims, ok bool) {
	sealed, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndex(token, ".")+1:])
	if err != nil {
		return Claims{}, false
	}
	plain, err := t.seal.Open(nil, nil, sealed, nil)
	if err != nil {
		return Claims{}, false
	}
	err = json.Unmarshal(plain, &c)
	return c, err == nil
}

func (t *tokens) revokeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revokedThrough = t.issued
}
