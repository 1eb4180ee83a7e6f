package auth_test

import (
	"cmp"
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
	"maps"
	"math/big"
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
	otherRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	// weakRSA has 1,024 bits and no private part, because FIPS 140 does not allow making one.
	weakRSA = sync.OnceValue(func() *rsa.PrivateKey {
		n := new(big.Int).Lsh(big.NewInt(1), 1023)
		return &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}}
	})
	ecKey   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	// shortEC has an x with a leading zero, which some issuers leave out.
	shortEC = sync.OnceValue(func() *ecdsa.PrivateKey {
		for {
			if k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)); len(k.X.Bytes()) == 31 {
				return k
			}
		}
	})
	// edKey has a public key that begins with a zero, which must not be left out.
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

// good returns the claims of a valid token, with changes. A nil removes a claim.
func good(change ...claims) claims {
	c := claims{"iss": issuer, "aud": audience, "sub": "alice", "exp": time.Now().Add(time.Hour).Unix()}
	for _, with := range change {
		maps.Copy(c, with)
	}
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
	return c
}

// sign makes a token. The header may replace alg or add to it; the payload is claims or raw text.
func sign(algorithm jose.SignatureAlgorithm, key any, header claims, payload any) string {
	raw, ok := payload.(string)
	if !ok {
		raw = string(must(json.Marshal(payload)))
	}
	full := claims{"alg": string(algorithm)}
	maps.Copy(full, header)
	return signRaw(algorithm, key, string(must(json.Marshal(full))), raw)
}

// signRaw signs a header and payload of any form, which no library would.
func signRaw(algorithm jose.SignatureAlgorithm, key any, header, payload string) string {
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(string(signature(algorithm, key, input)))
}

func signature(algorithm jose.SignatureAlgorithm, key any, input string) (signed []byte) {
	hash := cmp.Or(map[string]crypto.Hash{"384": crypto.SHA384, "512": crypto.SHA512}[string(algorithm[2:])], crypto.SHA256)
	h := hash.New()
	h.Write([]byte(input))
	switch key := key.(type) {
	case string:
		return signature(algorithm, []byte(key), input)
	case []byte:
		fips140.WithoutEnforcement(func() { // an attacker may use any key
			mac := hmac.New(hash.New, key)
			mac.Write([]byte(input))
			signed = mac.Sum(nil)
		})
		return signed
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
		if err != nil {
			panic(err)
		}
		size := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		var options crypto.SignerOpts = hash
		if strings.HasPrefix(string(algorithm), "PS") {
			options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		return must(key.Sign(rand.Reader, h.Sum(nil), options))
	default:
		return ed25519.Sign(key.(ed25519.PrivateKey), []byte(input))
	}
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

// options are the settings that a test may change.
type options struct {
	*auth.Config
	*auth.Deps
	*auth.JWTConfig
}

func optionsOf(c *auth.Config, d *auth.Deps) *options { return &options{c, d, &c.JWTConfig} }

// newJWT makes the check jwt with usual settings and a change.
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

// inBubble runs f with a fake clock, and waits for all goroutines.
func inBubble(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		f(t)
		time.Sleep(10 * time.Second) // for a fetch that no caller waits for
		synctest.Wait()
	})
}

func publicKey(content string) func(*options) {
	return func(o *options) {
		o.Secret, o.PublicKey = secret.Source{}, static("JWT_PUBLIC_KEY", content)
	}
}
