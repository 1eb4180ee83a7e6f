package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-jose/go-jose/v4"
)

const (
	minRSABits = 2048 // RFC 7518, section 3.3
	maxRSABits = 8192 // so that a verification stays cheap

	// ed25519Name is the RFC 9864 name of EdDSA on that curve, which go-jose does not know.
	ed25519Name = jose.SignatureAlgorithm("Ed25519")
)

var (
	curves = map[jose.SignatureAlgorithm]elliptic.Curve{
		jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521(),
	}
	// secretSizes are the least sizes in bytes (RFC 7518, section 3.2).
	secretSizes = map[jose.SignatureAlgorithm]int{jose.HS256: 32, jose.HS384: 48, jose.HS512: 64}

	// asymmetric are the algorithms of public keys, symmetric those of a secret. "none" is in neither.
	asymmetric = []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
	symmetric = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
)

// plainEdDSA replaces the newer name of EdDSA by the older one.
func plainEdDSA(algorithm jose.SignatureAlgorithm) jose.SignatureAlgorithm {
	if algorithm == ed25519Name {
		return jose.EdDSA
	}
	return algorithm
}

// keySet verifies signatures. It never changes; a new one replaces it.
type keySet struct {
	serial  uint64 // ascending in the process
	keys    []key
	skipped []string // which keys cannot be used and why, one line each
}

var serials atomic.Uint64

func newKeySet() *keySet { return &keySet{serial: serials.Add(1)} }

// key verifies signatures.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm // the only one, if the key says so
	material  any                     // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or []byte for HMAC
}

// verify tries the keys that may have signed the token. It reports in known whether there are any: a token without kid
// may be of any key, and a key without kid may have signed any token.
func (s *keySet) verify(t *token) (valid, known bool) {
	for _, k := range s.keys {
		if named := t.Header.KeyID; named != "" && k.id != "" && k.id != named {
			continue
		}
		known = true
		if k.fits(jose.SignatureAlgorithm(t.Header.Algorithm)) && k.verifies(t) {
			return true, true
		}
	}
	return false, known
}

func (k key) verifies(t *token) bool {
	material := k.material
	if public, ok := material.(ed25519.PublicKey); ok {
		material = ed25519Verifier(public)
	}
	_, err := t.signed.Verify(material)
	return err == nil
}

// ed25519Verifier implements jose.OpaqueVerifier for both names of the algorithm.
type ed25519Verifier ed25519.PublicKey

// VerifyPayload verifies the signature of payload.
func (v ed25519Verifier) VerifyPayload(payload, signature []byte, algorithm jose.SignatureAlgorithm) error {
	if plainEdDSA(algorithm) != jose.EdDSA || !ed25519.Verify(ed25519.PublicKey(v), payload, signature) {
		return jose.ErrCryptoFailure
	}
	return nil
}

// fits reports whether the key's type, curve, size and alg suit the algorithm. This keeps a public key from being used
// as an HMAC secret.
func (k key) fits(algorithm jose.SignatureAlgorithm) bool {
	algorithm = plainEdDSA(algorithm)
	if k.algorithm != "" && plainEdDSA(k.algorithm) != algorithm {
		return false
	}
	switch material := k.material.(type) {
	case []byte:
		least, isHMAC := secretSizes[algorithm]
		return isHMAC && len(material) >= least
	case *rsa.PublicKey:
		return strings.HasPrefix(string(algorithm), "RS") || strings.HasPrefix(string(algorithm), "PS")
	case *ecdsa.PublicKey:
		return material.Curve == curves[algorithm]
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	default:
		return false
	}
}

// usable returns why a key cannot be used with JWT_ALGORITHMS.
func (k key) usable(allowed []jose.SignatureAlgorithm) error {
	if public, ok := k.material.(*rsa.PublicKey); ok {
		if bits := public.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key must have %d to %d bits and has %d", minRSABits, maxRSABits, bits)
		}
	}
	if !slices.ContainsFunc(allowed, k.fits) {
		return errors.New("no algorithm of JWT_ALGORITHMS suits its type, size and alg")
	}
	return nil
}

func (s *keySet) equal(other *keySet) bool {
	return other != nil && slices.Equal(s.skipped, other.skipped) && slices.EqualFunc(s.keys, other.keys, func(a, b key) bool {
		public, ok := a.material.(interface{ Equal(crypto.PublicKey) bool })
		return ok && a.id == b.id && a.algorithm == b.algorithm && public.Equal(b.material)
	})
}
