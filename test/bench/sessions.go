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
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	sessionSecret = "a-secret-of-the-benchmark-0123456789abcdef"
	audience      = "https://tokens.example.com"
	origin        = "https://app.example.com"
	tokenSize     = 300 // as peers/main.go makes them
)

// sessions are signed-in users: what a server needs to check them, and the request header of each.
type sessions struct {
	env    []string
	users  int
	header func(user int) string
}

// withJWT are users with a session signed by one algorithm.
func withJWT(algorithm jose.SignatureAlgorithm, users int) (s sessions, err error) {
	var key any = []byte(sessionSecret)
	verify := "JWT_SECRET=" + sessionSecret
	switch algorithm {
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		return s, err
	}
	if private, ok := key.(crypto.Signer); ok {
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			return s, err
		}
		verify = "JWT_PUBLIC_KEY=" + string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return s, err
	}
	headers, now := make([]string, users), time.Now()
	for i := range headers {
		session, err := jwt.Signed(signer).Claims(jwt.Claims{
			Subject: userName(i), Audience: jwt.Audience{audience}, Issuer: "https://id.example.com",
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Hour)),
		}).Serialize()
		if err != nil {
			return s, err
		}
		headers[i] = "Authorization: Bearer " + session
	}
	return sessions{
		env:   []string{"SESSION_CHECK=jwt", "JWT_AUDIENCE=" + audience, verify},
		users: users, header: func(user int) string { return headers[user] },
	}, nil
}

// behindProxy are users whom a proxy in front has signed in.
func behindProxy(users int) sessions {
	return sessions{
		env:   []string{"SESSION_CHECK=proxy", "TRUSTED_PROXIES=127.0.0.1/32", fmt.Sprint("USERS=", users)},
		users: users, header: func(user int) string { return "X-Forwarded-User: " + userName(user) },
	}
}

func userName(n int) string { return fmt.Sprintf("user-%08d@example.com", n) }

// request appends what a page of the allowed origin sends. Each user has its turn, in an order that leaves no
// pattern to processor caches.
func (s sessions) request(dst []byte, n int) []byte {
	dst = append(dst, "POST /token HTTP/1.1\r\nHost: tokens.example.com\r\nOrigin: "+origin+
		"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0\r\nAccept: */*\r\nContent-Length: 0\r\n"...)
	dst = append(dst, s.header(n*7919%s.users)...)
	return append(dst, "\r\n\r\n"...)
}
