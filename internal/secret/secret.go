// Package secret holds credentials so that they cannot be printed by accident, and follows the files
// that some of them come from.
//
// Everything that requests or proves something is a [Value]: the service account's key and secret, the
// HMAC key of sessions, client secrets, the Redis URL and each issued token. No printer of the
// standard library shows what it holds; [Value.Reveal] does, and its callers can be counted.
package secret

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Value is one credential. The zero Value holds none. Two Values are == only if one is a copy of the
// other; compare contents with [Value.Equal].
type Value struct {
	// Behind a pointer, because fmt reads an unexported struct field without asking its methods and
	// would print a string found there, but prints only the address of a nested pointer.
	content *string
}

// New wraps a credential.
func New(content string) Value {
	if content == "" {
		return Value{}
	}
	return Value{content: &content}
}

// Reveal returns the credential itself. Call it only where the credential leaves on purpose.
func (v Value) Reveal() string {
	if v.content == nil {
		return ""
	}
	return *v.content
}

// IsZero reports whether v holds no credential.
func (v Value) IsZero() bool { return v.content == nil }

// Len is the length of the credential in bytes.
func (v Value) Len() int { return len(v.Reveal()) }

// Equal compares contents in constant time.
func (v Value) Equal(other Value) bool {
	return subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(other.Reveal())) == 1
}

// Derive makes a 32-byte key for one purpose from the credential, by HKDF-SHA256 (RFC 5869). Keys of
// different purposes reveal nothing of each other or of the credential.
func (v Value) Derive(purpose string) []byte {
	material := []byte(v.Reveal())
	if len(material) < 14 { // less than FIPS 140 lets HKDF take, at 112 bits
		sum := sha256.Sum256(material)
		material = sum[:]
	}
	key, err := hkdf.Key(sha256.New, material, nil, "tokenvend "+purpose, 32)
	if err != nil {
		panic(err) // only for a key longer than 255 hashes
	}
	return key
}

// Fingerprint names the credential in a log line: eight hex digits that cannot be turned back.
func (v Value) Fingerprint() string {
	if v.IsZero() {
		return "none"
	}
	return hex.EncodeToString(v.Derive("fingerprint")[:4])
}

// Decode implements envconfig.Decoder. It never fails, because envconfig prints what it cannot decode.
func (v *Value) Decode(content string) error {
	*v = New(content)
	return nil
}

// String implements [fmt.Stringer] without the content.
func (v Value) String() string { return redacted }

// Format implements [fmt.Formatter] for every verb without the content.
func (v Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer] without the content.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler] without the content; encoding/json uses it too.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
