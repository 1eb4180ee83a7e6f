package sethealth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync/atomic"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Pair is the service account's key and secret as they were at one moment.
type Pair struct{ Key, Secret secret.Value }

// Credentials are the service account, followed through rotations of its key and secret.
type Credentials struct {
	key, secret *secret.Var
	current     atomic.Pointer[account]
}

// account is what is derived from one pair, so that it is derived once.
type account struct {
	pair        Pair
	fingerprint string
	pseudonyms  []byte
}

// NewCredentials follows the two variables.
func NewCredentials(key, secret *secret.Var) *Credentials {
	return &Credentials{key: key, secret: secret}
}

// now is the account of the present pair. While nothing is rotated it costs three atomic loads.
func (c *Credentials) now() *account {
	pair := Pair{Key: c.key.Get(), Secret: c.secret.Get()}
	if a := c.current.Load(); a != nil && a.pair == pair {
		return a
	}
	a := &account{
		pair:        pair,
		fingerprint: hex.EncodeToString(pair.Secret.Derive("account " + pair.Key.Reveal())[:8]),
		pseudonyms:  pair.Secret.Derive("pseudonym"),
	}
	c.current.Store(a)
	return a
}

// Pair is the key and secret of now.
func (c *Credentials) Pair() Pair { return c.now().pair }

// Account is a fingerprint of the pair, 16 hex digits that cannot be turned back. It changes when
// either half does, and is cheap enough to ask for on every request.
func (c *Credentials) Account() string { return c.now().fingerprint }

// Derive makes a 32-byte key for one purpose from the present secret; see [secret.Value.Derive].
func (c *Credentials) Derive(purpose string) []byte { return c.now().pair.Secret.Derive(purpose) }

// Pseudonym stands for a user's name where that must not be seen: 32 hex digits of HMAC-SHA256 under a
// key derived from the secret. It is the same on every replica and after every restart, and another
// once the secret is.
func (c *Credentials) Pseudonym(user string) string { return c.now().pseudonym(user) }

func (a *account) pseudonym(user string) string {
	mac := hmac.New(sha256.New, a.pseudonyms)
	mac.Write([]byte(user))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// Reload reads the files again, if the pair comes from files, and reports whether either content is
// new. A half that cannot be read keeps its value, and the error says why.
func (c *Credentials) Reload() (changed bool, err error) {
	key, keyErr := c.key.Reload()
	secret, secretErr := c.secret.Reload()
	return key || secret, errors.Join(keyErr, secretErr)
}
