package auth

import (
	"context"
	"sync/atomic"
	"time"
)

// issuer is one of JWT_ISSUER. Its keys verify its own tokens only.
type issuer struct {
	name   string                  // "": any
	static *atomic.Pointer[keySet] // keys from a variable, or nil
	server *keyServer              // fetches the keys if static is nil
}

// current returns the issuer's keys. Every request calls it.
func (i *issuer) current() fetched {
	if i.static != nil {
		return fetched{keySet: i.static.Load(), at: time.Now()}
	}
	return *i.server.last.Load()
}

// fetched is a key set and when it was fetched. The zero value is before the first fetch.
type fetched struct {
	*keySet
	at       time.Time
	number   uint64  // of the fetch, ascending
	previous *keySet // the set before the last change
}

func (f fetched) until() time.Time { return f.at.Add(keysMaxAge) }

func (f fetched) isUsable() bool { return f.keySet != nil && !time.Now().After(f.until()) }

func (f fetched) verify(t *token) (valid, known bool) {
	if !f.isUsable() {
		return false, false
	}
	return f.keySet.verify(t)
}

// hasJustRejected reports whether a token that does not verify cannot be of a new key: the set was fetched a moment
// ago, and has the token's kid or has just retired the key that signed it.
func (f fetched) hasJustRejected(t *token, known bool) bool {
	if time.Since(f.at) >= keysForced {
		return false
	}
	if !known && f.previous != nil {
		known, _ = f.previous.verify(t)
	}
	return known
}

// verify checks the signature of the token, whose digest is h, and returns until when the keys may be used. It rejects
// a token only by keys whose fetch began after the token was first seen, or that have just rejected it: neither a
// rotation nor an outage may sign anybody out.
func (i *issuer) verify(ctx context.Context, t *token, h digest) (until time.Time, err error) {
	keys := i.current()
	valid, known := keys.verify(t)
	if !valid && i.server != nil && !keys.hasJustRejected(t, known) {
		ctx, cancel := context.WithTimeout(ctx, keysWait)
		defer cancel()
		first, _ := i.server.seen.SetIfAbsent(h, i.server.started.Load())
		for !valid && (keys.number <= first || !keys.isUsable()) {
			if err := i.server.refresh(ctx); err != nil {
				return until, err
			}
			keys = i.current()
			valid, known = keys.verify(t)
		}
	}
	switch {
	case valid:
		return keys.until(), nil
	case known || i.server == nil:
		return until, unauthenticated("signature is not valid under the issuer's current keys")
	default:
		return until, unauthenticated("unknown key: the issuer's key set does not have the token's kid")
	}
}
