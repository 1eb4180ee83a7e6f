//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	secretOfSessions = "a-secret-of-the-benchmark-0123456789abcdef"
	audience         = "https://tokens.example.com"
	origin           = "https://app.example.com"
)

// signer signs sessions by one algorithm, and tells servers how to check them.
type signer struct {
	jose.Signer
	env []string
}

func newSigner(algorithm jose.SignatureAlgorithm) (*signer, error) {
	var key any
	var err error
	s := &signer{}
	switch algorithm {
	case jose.HS256:
		key = []byte(secretOfSessions)
		s.env = []string{"JWT_SECRET=" + secretOfSessions}
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return nil, err
	}
	if private, ok := key.(crypto.Signer); ok {
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			return nil, err
		}
		s.env = []string{"JWT_PUBLIC_KEY=" + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	}
	s.Signer, err = jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	return s, err
}

// crowd is signed-in users, and what each of them sends.
type crowd struct {
	users []user
	// cookie goes along with each request, for what other software in front keeps there.
	cookie string
}

type user struct{ name, session string }

// newCrowd makes that many users; in names, first is the number of the first one.
func newCrowd(s *signer, first, n int) (*crowd, error) {
	c := &crowd{users: make([]user, n)}
	now := time.Now()
	for i := range c.users {
		name := fmt.Sprintf("user-%08d@example.com", first+i)
		session, err := jwt.Signed(s.Signer).Claims(map[string]any{
			"sub": name, "aud": audience, "iss": "https://id.example.com", "iat": now.Unix(), "exp": now.Add(6 * time.Hour).Unix(),
		}).Serialize()
		if err != nil {
			return nil, err
		}
		c.users[i] = user{name, session}
	}
	return c, nil
}

// request appends what a page of the allowed origin sends for user number n, round and round, in an order
// that leaves no pattern to caches.
func (c *crowd) request(dst []byte, n int) []byte { return c.append(dst, n*7919%len(c.users)) }

// inOrder is each user once, and then again.
func (c *crowd) inOrder(dst []byte, n int) []byte { return c.append(dst, n%len(c.users)) }

func (c *crowd) append(dst []byte, n int) []byte {
	u := &c.users[n]
	dst = append(dst, "POST /token HTTP/1.1\r\nHost: tokens.example.com\r\nOrigin: "+origin+
		"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0\r\nAccept: */*\r\nContent-Length: 0\r\nX-User: "...)
	dst = append(dst, u.name...)
	dst = append(dst, "\r\nAuthorization: Bearer "...)
	dst = append(dst, u.session...)
	if c.cookie != "" {
		dst = append(dst, "\r\nCookie: "...)
		dst = append(dst, c.cookie...)
	}
	return append(dst, "\r\n\r\n"...)
}

// fatCookie is that many bytes of cookies of about 200 bytes.
func fatCookie(size int) string {
	return strings.Repeat("theme_preference_abcdefgh="+strings.Repeat("v", 172)+"; ", size/200)
}
