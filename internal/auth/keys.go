package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	minRSABits = 2048 // RFC 7518, section 3.3
	maxRSABits = 8192 // so that a verification stays cheap
)

// keySet is what signatures are verified with. It never changes; a new one takes its place, so that
// its address names it.
type keySet struct {
	keys  []key
	named bool // the keys have ids, and a token may name one that is not among them
}

// key verifies signatures.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm // the only one, if the key says so
	material  any                     // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or []byte for HMAC
}

// match is the keys that may have signed a token with that header. It reports whether the set knows
// the key that the token names; a token that names none may be tried with every key.
func (s *keySet) match(id string, algorithm jose.SignatureAlgorithm) (fitting []key, known bool) {
	byName := s.named && id != ""
	known = !byName
	for _, k := range s.keys {
		if byName && k.id != id {
			continue
		}
		known = true
		if k.verifies(algorithm) {
			fitting = append(fitting, k)
		}
	}
	return fitting, known
}

func (s *keySet) equal(other *keySet) bool {
	return other != nil && s.named == other.named && slices.EqualFunc(s.keys, other.keys, func(a, b key) bool {
		public, ok := a.material.(interface{ Equal(crypto.PublicKey) bool })
		return ok && a.id == b.id && a.algorithm == b.algorithm && public.Equal(b.material)
	})
}

// verifies reports whether the key is of the algorithm's kind, curve and size, and meant for it. It is
// what keeps a public key from ever serving as an HMAC secret.
func (k key) verifies(algorithm jose.SignatureAlgorithm) bool {
	if k.algorithm != "" && k.algorithm != algorithm {
		return false
	}
	switch material := k.material.(type) {
	case []byte:
		return len(material) >= hmacBytes(algorithm)
	case *rsa.PublicKey:
		return strings.HasPrefix(string(algorithm), "RS") || strings.HasPrefix(string(algorithm), "PS")
	case *ecdsa.PublicKey:
		switch algorithm {
		case jose.ES256:
			return material.Curve == elliptic.P256()
		case jose.ES384:
			return material.Curve == elliptic.P384()
		case jose.ES512:
			return material.Curve == elliptic.P521()
		}
		return false
	case ed25519.PublicKey:
		return algorithm == jose.EdDSA
	default:
		return false
	}
}

// hmacBytes is the least length of an HMAC key (RFC 7518, section 3.2); no key is long enough for an
// algorithm that is no HMAC.
func hmacBytes(algorithm jose.SignatureAlgorithm) int {
	switch algorithm {
	case jose.HS256:
		return 32
	case jose.HS384:
		return 48
	case jose.HS512:
		return 64
	default:
		return maxToken << 10
	}
}

// parseJWKS reads a key set (RFC 7517). Keys of unknown kind, private and symmetric keys, weak keys and
// keys for anything but verifying signatures are skipped; it fails only if none is left.
func parseJWKS(document []byte) (*keySet, error) {
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(document, &raw); err != nil {
		return nil, errors.New("the key set is not valid JSON")
	}
	set := &keySet{named: true}
	for _, one := range raw.Keys {
		if k, ok := parseJWK(one); ok {
			set.keys = append(set.keys, k)
		}
	}
	if len(set.keys) == 0 {
		return nil, errors.New("the key set holds no usable key")
	}
	return set, nil
}

func parseJWK(document []byte) (key, bool) {
	var purpose struct {
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
	}
	var members map[string]any
	if json.Unmarshal(document, &purpose) != nil || json.Unmarshal(document, &members) != nil {
		return key{}, false
	}
	if purpose.Use != "" && purpose.Use != "sig" || purpose.Ops != nil && !slices.Contains(purpose.Ops, "verify") {
		return key{}, false
	}
	// Certificates are not what the key is trusted for, so an odd one must not cost us the key.
	for _, name := range []string{"x5c", "x5u", "x5t", "x5t#S256"} {
		delete(members, name)
	}
	reduced, err := json.Marshal(members)
	if err != nil {
		return key{}, false
	}
	var jwk jose.JSONWebKey
	if json.Unmarshal(reduced, &jwk) != nil || !jwk.IsPublic() || !jwk.Valid() {
		return key{}, false
	}
	k := key{id: jwk.KeyID, algorithm: jose.SignatureAlgorithm(jwk.Algorithm), material: jwk.Key}
	if checkStrength(k.material) != nil || !slices.ContainsFunc(asymmetric, k.verifies) {
		return key{}, false
	}
	return k, true
}

// parsePEM reads public keys and certificates. All of them must be usable: the operator chose them.
func parsePEM(content string) (*keySet, error) {
	set := &keySet{}
	rest := []byte(content)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := parseBlock(block)
		if err != nil {
			return nil, err
		}
		set.keys = append(set.keys, key{material: public})
	}
	if len(set.keys) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("not a PEM of public keys or certificates")
	}
	return set, nil
}

func parseBlock(block *pem.Block) (public any, err error) {
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = certificate.PublicKey
		}
	default:
		return nil, errors.New("the PEM holds something other than public keys and certificates")
	}
	if err != nil {
		return nil, errors.New("the PEM holds a key or certificate that cannot be read")
	}
	if err := checkStrength(public); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(asymmetric, key{material: public}.verifies) {
		return nil, errors.New("the PEM holds a key of a kind that no signature algorithm uses")
	}
	return public, nil
}

func checkStrength(public any) error {
	if k, ok := public.(*rsa.PublicKey); ok {
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("an RSA key must have %d to %d bits", minRSABits, maxRSABits)
		}
	}
	return nil
}
