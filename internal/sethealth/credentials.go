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

// pair is the key and secret at one point in time. Two pairs are == as long as neither has been replaced.
type pair struct{ key, secret secret.Value }

func (c Config) pair() pair { return pair{c.Key.Get(), c.Secret.Get()} }

// reloadCredentials reads the files of key and secret again, if there are any, both at once and within the time-out
// of one attempt. A value that cannot be read stays the same.
func (c *Client) reloadCredentials(ctx context.Context) pair {
	ctx, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	var keyErr, secretErr error
	var reading sync.WaitGroup
	reading.Go(func() { keyErr = c.config.Key.Reload(ctx) })
	reading.Go(func() { secretErr = c.config.Secret.Reload(ctx) })
	reading.Wait()
	if err := errors.Join(keyErr, secretErr); err != nil {
		c.deps.Logger.Error("sethealth refused the service account, and its files cannot be read again", "error", err.Error())
	}
	return c.config.pair()
}

// Pseudonym returns a substitute that hides the user's name: 32 hex digits of an HMAC under a key derived from the
// current secret. It is the same on every replica and after every restart, and changes with the secret.
func (c Config) Pseudonym(u User) string { return pseudonym(c.Secret.Get(), u) }

func pseudonym(key secret.Value, u User) string {
	mac := hmac.New(sha256.New, key.Derive("pseudonym"))
	mac.Write([]byte(u.Key()))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}
