package sethealth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Credentials are the service account, through rotations of its key and secret.
type Credentials struct{ key, secret secret.Source }

// NewCredentials uses whatever the two sources hold at the time.
func NewCredentials(key, secret secret.Source) *Credentials {
	return &Credentials{key: key, secret: secret}
}

// pair is key and secret as they were at one moment. Two pairs are == while neither content changed.
type pair struct{ key, secret secret.Value }

func (c *Credentials) pair() pair { return pair{c.key.Get(), c.secret.Get()} }

// Derive makes a 32-byte key for one purpose from the present secret; see [secret.Value.Derive].
func (c *Credentials) Derive(purpose string) []byte { return c.secret.Get().Derive(purpose) }

// Pseudonym replaces a user's name where that must not be seen: 32 hex digits of an HMAC under a key derived
// from the secret. It is the same on every replica and after every restart, and changes with the secret.
func (c *Credentials) Pseudonym(u User) string { return pseudonym(c.secret.Get(), u) }

func pseudonym(key secret.Value, u User) string {
	mac := hmac.New(sha256.New, key.Derive("pseudonym"))
	mac.Write([]byte(u.Key()))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// Reload reads the files again, both at once, if the pair comes from files. A half that cannot be read
// until ctx ends keeps its value, and the error says why.
func (c *Credentials) Reload(ctx context.Context) error {
	var keyErr, secretErr error
	var reading sync.WaitGroup
	reading.Go(func() { keyErr = c.key.Reload(ctx) })
	reading.Go(func() { secretErr = c.secret.Reload(ctx) })
	reading.Wait()
	return errors.Join(keyErr, secretErr)
}
