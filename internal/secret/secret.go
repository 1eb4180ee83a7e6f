// Package secret holds credentials so that they cannot be printed by accident, and watches the files
// that some of them come from.
//
// Every credential of the service, and every issued token, is a [Value]. The standard library never prints its
// content. Only [Value.Reveal] returns it, and its callers can be counted.
package secret

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
)

const redacted = "[redacted]"

// Value is one credential. The zero Value holds none. Two Values are == only if one is a copy of the
// other; compare contents with [Value.Equal].
type Value struct {
	// A pointer, because fmt does not call the methods of an unexported struct field: it would print a string,
	// but prints only the address of a nested pointer.
	content *string
}

// New wraps a credential.
func New(content string) Value {
	if content == "" {
		return Value{}
	}
	return Value{content: &content}
}

// Reveal returns the credential. Call it only where the plaintext is needed.
func (v Value) Reveal() string {
	if v.content == nil {
		return ""
	}
	return *v.content
}

// Equal compares contents in constant time.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(other.Reveal())) == 1
}

// Derive makes a 32-byte key for one purpose from the credential, by HKDF-SHA256 (RFC 5869). Keys of
// different purposes reveal nothing of each other or of the credential.
func (v Value) Derive(purpose string) []byte {
	material := []byte(v.Reveal())
	if len(material) < 14 { // FIPS 140 requires HKDF to have 112 bits
		sum := sha256.Sum256(material)
		material = sum[:]
	}
	key, err := hkdf.Key(sha256.New, material, nil, "tokenvend "+purpose, 32)
	if err != nil {
		panic(err) // only for a key longer than 255 hashes
	}
	return key
}

// Fingerprint returns eight hex digits that identify the credential in the log without revealing it.
func (v Value) Fingerprint() string { return hex.EncodeToString(v.Derive("fingerprint")[:4]) }

// Format implements [fmt.Formatter] for every verb, without the content.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements [encoding.TextMarshaler], without the content. encoding/json and log/slog use it too.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
