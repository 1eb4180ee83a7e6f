package redisx

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync/atomic"
)

// Credentials are the service account, from whose secret all keys are derived.
type Credentials interface {
	// Account is the fingerprint of the current account.
	Account() string
	// Derive makes 32 bytes for one purpose from its secret.
	Derive(purpose string) []byte
}

// Space is the part of the database that belongs to one service account under one set of settings. What
// another account or other settings wrote cannot be found from here, nor read.
type Space struct {
	credentials Credentials
	settings    []byte
	keys        atomic.Pointer[Keys]
}

// NewSpace is the Space of an account and of everything else that a token depends on.
func NewSpace(credentials Credentials, settings ...string) *Space {
	s := &Space{credentials: credentials}
	for _, setting := range settings {
		// With the length in front, no two lists of settings are the same bytes.
		s.settings = append(binary.AppendUvarint(s.settings, uint64(len(setting))), setting...)
	}
	return s
}

// Keys name and seal the entries of one account.
type Keys struct {
	// Account is the fingerprint of the service account that they come from.
	Account string
	naming  []byte
	prefix  string
	aead    cipher.AEAD
}

// Keys are those of the current account. A rotated one has other keys at once.
func (s *Space) Keys() *Keys {
	account := s.credentials.Account()
	if keys := s.keys.Load(); keys != nil && keys.Account == account {
		return keys
	}
	for {
		keys := s.derive(account)
		// The account may have been replaced half-way.
		now := s.credentials.Account()
		if now == account {
			s.keys.Store(keys)
			return keys
		}
		account = now
	}
}

func (s *Space) derive(account string) *Keys {
	// The account itself too: its key may be replaced while its secret stays.
	naming := mac(s.credentials.Derive("redis names"), append([]byte(account+" "), s.settings...))
	block, err := aes.NewCipher(s.credentials.Derive("redis values"))
	if err != nil {
		panic(err) // only for a key of another length than 16, 24 or 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for a block of another size than AES has
	}
	return &Keys{
		Account: account,
		naming:  naming,
		prefix:  "tokenvend:" + hex.EncodeToString(mac(naming, nil)[:4]) + ":{",
		aead:    aead,
	}
}

// Name is the name of a user's entry of one kind. The user cannot be read from it; the kind can. All of a
// user's entries are in one slot of a cluster.
func (k *Keys) Name(kind, user string) string {
	return k.prefix + hex.EncodeToString(mac(k.naming, []byte("user "+user))[:16]) + "}:" + kind
}

// Seal encrypts what is stored under name, by AES-256-GCM. It opens under no other name.
func (k *Keys) Seal(name string, plain []byte) []byte {
	return k.aead.Seal(nil, nil, plain, []byte(name))
}

// Open decrypts what Seal made for name. It fails for anything else.
func (k *Keys) Open(name string, sealed []byte) ([]byte, error) {
	return k.aead.Open(nil, nil, sealed, []byte(name))
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
