package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

const (
	issuer   = "https://issuer.example"
	audience = "tokenvend"
	hmacKey  = "0123456789abcdef0123456789abcdef"
)

// The keys of the tests are made once: RSA keys are slow to make.
var (
	rsaKey   = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	thirdRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	// weakRSA has 1,024 bits and no private part: FIPS 140 allows none to be made.
	weakRSA = sync.OnceValue(func() *rsa.PrivateKey {
		n := new(big.Int).Lsh(big.NewInt(1), 1023)
		return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}}
	})
	p224Key = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)) })
	ecKey   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	// edKey is one whose public key begins with a zero, which is part of it.
	edKey = sync.OnceValue(func() ed25519.PrivateKey {
		for n := uint16(0); ; n++ {
			key := ed25519.NewKeyFromSeed(binary.BigEndian.AppendUint16(make([]byte, ed25519.SeedSize-2), n))
			if key.Public().(ed25519.PublicKey)[0] == 0 {
				return key
			}
		}
	})
)

type claims = map[string]any

// good is the claims of a token that all is well with.
func good(change ...claims) claims {
	c := claims{"iss": issuer, "aud": audience, "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for _, with := range change {
		for name, value := range with {
			if value == nil {
				delete(c, name)
			} else {
				c[name] = value
			}
		}
	}
	return c
}

// sign makes a token. The header may replace alg or add to it; the payload is claims or raw text.
func sign(algorithm jose.SignatureAlgorithm, key any, header claims, payload any) string {
	raw, ok := payload.(string)
	if !ok {
		raw = string(must(json.Marshal(payload)))
	}
	full := claims{"alg": string(algorithm)}
	for name, value := range header {
		full[name] = value
	}
	return signRaw(algorithm, key, string(must(json.Marshal(full))), raw)
}

// signRaw signs a header and payload of any form, by hand because no library would.
func signRaw(algorithm jose.SignatureAlgorithm, key any, header, payload string) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(string(signature(algorithm, key, input)))
}

func signature(algorithm jose.SignatureAlgorithm, key any, input string) []byte {
	switch key := key.(type) {
	case string:
		return signHMAC(algorithm, []byte(key), input)
	case []byte:
		return signHMAC(algorithm, key, input)
	case *ecdsa.PrivateKey:
		hash := hashOf(algorithm)
		r, s, err := ecdsa.Sign(rand.Reader, key, sum(hash, input))
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		r.FillBytes(out[:size])
		s.FillBytes(out[size:])
		return out
	case *rsa.PrivateKey:
		hash := hashOf(algorithm)
		if strings.HasPrefix(string(algorithm), "PS") {
			return must(rsa.SignPSS(rand.Reader, key, hash, sum(hash, input), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(nil, key, hash, sum(hash, input)))
	case ed25519.PrivateKey:
		return ed25519.Sign(key, []byte(input))
	default:
		panic("no such key")
	}
}

func hashOf(algorithm jose.SignatureAlgorithm) crypto.Hash {
	switch algorithm[2:] {
	case "384":
		return crypto.SHA384
	case "512":
		return crypto.SHA512
	default:
		return crypto.SHA256
	}
}

func sum(hash crypto.Hash, input string) []byte {
	h := hash.New()
	h.Write([]byte(input))
	return h.Sum(nil)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func publicPEM(keys ...any) string {
	var out strings.Builder
	for _, key := range keys {
		_ = pem.Encode(&out, &pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))})
	}
	return out.String()
}

func static(name, value string) secret.Source { return secret.Static(name, secret.New(value)) }

// options are what a test changes.
type options struct {
	*auth.Config
	*auth.Deps
	*auth.JWTConfig
}

func optionsOf(c *auth.Config, d *auth.Deps) *options { return &options{c, d, &c.JWTConfig} }

// newJWT is the check jwt with what most tests need; change what the test is about.
func newJWT(t testing.TB, change func(*options)) *auth.Chain {
	t.Helper()
	return build(t, jwtConfig(), nil, func(c *auth.Config, d *auth.Deps) { d.Size = 100; change(optionsOf(c, d)) })
}

func jwtConfig() auth.Config {
	return auth.Config{SessionCheck: setting.List{"jwt"}, JWTConfig: auth.JWTConfig{
		Issuers: setting.List{issuer}, Audience: setting.List{audience}, SubjectClaim: "sub", Leeway: 30 * time.Second,
	}}
}

func withSecret(o *options) { o.Secret = static("JWT_SECRET", hmacKey) }

func withPublic(keys ...any) func(*options) {
	return func(o *options) { o.PublicKey = static("JWT_PUBLIC_KEY", publicPEM(keys...)) }
}

func signHMAC(algorithm jose.SignatureAlgorithm, key []byte, input string) (sum []byte) {
	fips140.WithoutEnforcement(func() { // an attacker may use any key
		mac := hmac.New(hashOf(algorithm).New, key)
		mac.Write([]byte(input))
		sum = mac.Sum(nil)
	})
	return sum
}

// serving answers every request with the same document.
func serving(document string) transport {
	return func(*http.Request) (*http.Response, error) { return respond(200, document), nil }
}

// inBubble runs f on a clock that stands still until everybody waits, and ends when all goroutines have.
func inBubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		f(t)
		time.Sleep(10 * time.Second) // a fetch that nobody waits for any more
		synctest.Wait()
	})
}

func publicKey(content string) func(*options) {
	return func(o *options) {
		o.Secret, o.PublicKey = secret.Source{}, static("JWT_PUBLIC_KEY", content)
	}
}

func privatePEM(key any) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))
}

// shortEC is a key whose x has a leading zero, which some issuers leave out.
var shortEC = sync.OnceValue(func() *ecdsa.PrivateKey {
	for {
		if k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)); len(k.X.Bytes()) == 31 {
			return k
		}
	}
})
