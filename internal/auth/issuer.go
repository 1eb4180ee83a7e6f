package auth

import (
	"context"
	"sync/atomic"
	"time"
)

// issuer is one of JWT_ISSUER with its keys, with which its tokens alone are verified.
type issuer struct {
	name   string                  // "": any
	static *atomic.Pointer[keySet] // keys from a variable, or nil:
	server *keyServer              // keys that are fetched
}

// current is the issuer's keys at present. It is on the path of every request.
func (i *issuer) current() fetched {
	if i.static != nil {
		return fetched{keySet: i.static.Load(), at: time.Now()}
	}
	return *i.server.last.Load()
}

// fetched is a set of keys as an issuer had it. The zero value is that of one which did not answer yet.
type fetched struct {
	*keySet
	at       time.Time
	number   uint64  // of the fetch; a later one has a higher number
	previous *keySet // before the keys changed
}

func (f fetched) until() time.Time { return f.at.Add(keysMaxAge) }

func (f fetched) isUsable() bool { return f.keySet != nil && !time.Now().After(f.until()) }

func (f fetched) verify(t *token) (valid, known bool) {
	if !f.isUsable() {
		return false, false
	}
	return f.keySet.verify(t)
}

// hasJustRejected reports whether a set that was fetched a moment ago has a key of the token's name, or has
// just retired the one that signed it. Such a token is not one of a new key.
func (f fetched) hasJustRejected(t *token, known bool) bool {
	if time.Since(f.at) >= keysForced {
		return false
	}
	if !known && f.previous != nil {
		known, _ = f.previous.verify(t)
	}
	return known
}

// verify checks the signature of the token with that digest, and reports until when its keys may be used. A
// token is rejected only by keys that were asked for after it had first come, or, if it is not of a new key,
// a moment ago: a rotation is not a reason to sign anybody out, and neither is an outage.
func (i *issuer) verify(ctx context.Context, t *token, h digest) (until time.Time, err error) {
	keys := i.current()
	valid, known := keys.verify(t)
	if !valid && i.server != nil && !keys.hasJustRejected(t, known) {
		ctx, cancel := context.WithTimeout(ctx, keysWait)
		defer cancel()
		first := i.server.firstSeen(h)
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
		return until, errSignature
	default:
		return until, unauthenticated("unknown key: the issuer's key set has none of the token's kid")
	}
}

var errSignature = unauthenticated("signature is not valid by the keys that the issuer has now")
