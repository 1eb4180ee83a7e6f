package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"

	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

// maxKeys limits the keys tried for one token, and the log lines about a key set.
const maxKeys = 256

// parseJWKS reads a key set (RFC 7517), with the deviations of real issuers. Keys that cannot be used are skipped and
// listed; it fails if none is left.
func parseJWKS(document []byte, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	var list struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(bytes.TrimPrefix(document, []byte("\ufeff")), &list) != nil {
		return nil, errors.New("the key set is not valid JSON with an array \"keys\"")
	}
	if len(list.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set holds more than %d keys", maxKeys)
	}
	set := newKeySet()
	for n, one := range list.Keys {
		k, err := parseJWK(one, allowed)
		if err == nil {
			set.keys = append(set.keys, k)
			continue
		}
		id := k.id[:min(len(k.id), 64)]
		set.skipped = append(set.skipped, fmt.Sprintf("key %d of %d (kid %q): %s", n+1, len(list.Keys), id, err))
	}
	if len(set.keys) == 0 {
		why := append([]string{"the key set holds no usable key"}, set.skipped[:min(len(set.skipped), 8)]...)
		return nil, errors.New(strings.Join(why, "; "))
	}
	return set, nil
}

// coordinates are the sizes of x and y on each curve, in bytes.
var coordinates = map[string]int{"P-256": 32, "P-384": 48, "P-521": 66}

// parseJWK reads one key. On an error, k has its id at most.
func parseJWK(text []byte, allowed []jose.SignatureAlgorithm) (k key, err error) {
	members, err := strictjson.Object(text)
	if err != nil {
		return k, err
	}
	// No other members are used: go-jose would refuse a key for a malformed certificate, which is not needed.
	reduced := map[string]string{}
	for _, name := range []string{"kty", "crv", "kid", "alg", "n", "e", "x", "y"} {
		if text, ok := members[name].(string); ok {
			reduced[name] = text
		}
	}
	k.id = reduced["kid"]
	use, ops := members["use"], members["key_ops"]
	list, isList := ops.([]any)
	switch {
	case use != nil && use != "" && use != "sig":
		return k, errors.New("it is not for signatures (use)")
	case isList && !slices.Contains(list, any("verify")):
		return k, errors.New("it is not for verifying (key_ops)")
	case reduced["kty"] == "oct":
		return k, errors.New("it is a symmetric key, with which anyone could sign")
	case members["d"] != nil:
		return k, errors.New("it is a private key, with which anyone could sign")
	}
	for _, name := range []string{"n", "e", "x", "y"} {
		value, err := lenientBase64(reduced[name])
		if err != nil {
			return k, errors.New(name + " is not base64url")
		}
		if size := coordinates[reduced["crv"]]; size > 0 { // leading zeros may be missing, or too many
			value = bytes.TrimLeft(value, "\x00")
			value = append(make([]byte, max(size-len(value), 0)), value...)
		}
		reduced[name] = base64.RawURLEncoding.EncodeToString(value)
	}
	var jwk jose.JSONWebKey
	if text, err = json.Marshal(reduced); err != nil || jwk.UnmarshalJSON(text) != nil || !jwk.IsPublic() || !jwk.Valid() {
		return k, errors.New("its type (kty, crv) is not supported, or its parameters are not a valid key")
	}
	k.algorithm, k.material = jose.SignatureAlgorithm(jwk.Algorithm), jwk.Key
	return k, k.usable(allowed)
}

// lenientBase64 decodes either alphabet, with or without padding.
func lenientBase64(text string) ([]byte, error) {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	return base64.RawURLEncoding.DecodeString(text)
}

// parseStatic reads JWT_SECRET or JWT_PUBLIC_KEY. All keys must be usable: the operator chose them. The error
// says what the variable must be.
func (c *JWTConfig) parseStatic(content string) (*keySet, error) {
	if !c.Secret.IsSet() {
		return parsePEM(content, c.allowed)
	}
	if setting.IsPEM(content) { // anyone with a public key could sign tokens
		return nil, errors.New("must be a secret; PEM belongs in JWT_PUBLIC_KEY")
	}
	material := []byte(content)
	if encoded, ok := strings.CutPrefix(content, "base64:"); ok {
		var err error
		if material, err = lenientBase64(encoded); err != nil {
			return nil, errors.New("must be valid base64 after its prefix")
		}
	}
	set := newKeySet()
	set.keys = []key{{material: material}}
	if set.keys[0].usable(c.allowed) != nil {
		return nil, fmt.Errorf("must be a secret of at least 32 bytes (48 for HS384, 64 for HS512), and has %d", len(material))
	}
	return set, nil
}

func parsePEM(content string, allowed []jose.SignatureAlgorithm) (*keySet, error) {
	set := newKeySet()
	rest := []byte(strings.NewReplacer(`\r`, "", `\n`, "\n").Replace(content))
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		public, err := parseBlock(block)
		if err != nil {
			return nil, errNotPEM
		}
		k := key{material: public}
		if err := k.usable(allowed); err != nil {
			return nil, fmt.Errorf("must be a public key that can be used: %w", err)
		}
		set.keys = append(set.keys, k)
	}
	if len(set.keys) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errNotPEM
	}
	return set, nil
}

var errNotPEM = errors.New("must be valid PEM of public keys or certificates, and nothing else")

func parseBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return certificate.PublicKey, nil
	default:
		return nil, errNotPEM
	}
}
