package tokencache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// namespace names and encrypts the entries of one service account with one set of settings. Entries of another
// secret or of other settings can be neither found nor read.
type namespace struct {
	secret secret.Value
	naming []byte
	aead   cipher.AEAD
}

// namespace returns the namespace of the current secret, which may have been replaced since the last call.
func (r *Redis) namespace() *namespace {
	now := r.deps.Secret.Get()
	if n := r.current.Load(); n != nil && n.secret == now {
		return n
	}
	var settings []byte
	for _, setting := range r.deps.Settings {
		// The lengths make the bytes of each list unique.
		settings = append(binary.AppendUvarint(settings, uint64(len(setting))), setting...)
	}
	block, err := aes.NewCipher(now.Derive("redis values"))
	if err != nil {
		panic(err) // only for a key of another length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for a block of another size than AES has
	}
	n := &namespace{now, mac(now.Derive("redis names"), settings), aead}
	r.current.Store(n)
	return n
}

// key returns the name of an owner's entry of one kind, which does not reveal the owner. All entries of an owner
// are in one slot of a cluster.
func (n *namespace) key(kind, owner string) string {
	return "tokenvend:" + hex.EncodeToString(mac(n.naming, nil)[:4]) +
		":{" + hex.EncodeToString(mac(n.naming, []byte("user "+owner))[:16]) + "}:" + kind
}

// content is the plaintext of an entry. The user is part of the entry's key alone.
type content struct {
	Token   string `json:"token"`
	ID      string `json:"id"`
	Expires int64  `json:"expires"` // Unix nanoseconds
}

// seal encrypts a token by AES-256-GCM. It can be opened under the same key alone.
func (n *namespace) seal(key string, token sethealth.Token) []byte {
	plain, err := json.Marshal(content{token.Value.Reveal(), token.ID, token.Expires.UnixNano()})
	if err != nil {
		panic(err) // two strings and a number
	}
	return n.aead.Seal(nil, nil, plain, []byte(key))
}

// open decrypts what seal returned for the same key. It reports false for anything else.
func (n *namespace) open(key, sealed string) (sethealth.Token, bool) {
	plain, err := n.aead.Open(nil, nil, []byte(sealed), []byte(key))
	if err != nil {
		return sethealth.Token{}, false
	}
	var c content
	if json.Unmarshal(plain, &c) != nil {
		return sethealth.Token{}, false
	}
	return sethealth.Token{
		Value: secret.New(c.Token), ID: c.ID, Expires: time.Unix(0, c.Expires), Source: sethealth.Shared,
	}, true
}

func mac(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}
