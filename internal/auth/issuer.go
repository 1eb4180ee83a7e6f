package auth

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// issuer is one of JWT_ISSUER with its keys, with which its tokens alone are verified.
type issuer struct {
	name string // "": any
	keys interface {
		// current is the last set, or nil, and until when it may be used.
		current(now time.Time) (*keySet, time.Time)
	}
	server *keyServer // keys again, if they are fetched; else nil
}

// verify checks the signature of the token with that digest, and reports until when its keys may be used. A
// token is rejected only by keys that were asked for after it had first come, or, if it is not of a new key,
// a moment ago: a rotation is not a reason to sign anybody out, and neither is an outage.
func (i *issuer) verify(ctx context.Context, t *token, h digest) (time.Time, error) {
	valid, known, until := i.try(t)
	switch {
	case valid:
		return until, nil
	case i.server == nil, i.server.hasJustRejected(t, known):
		return until, errSignature
	}
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	for !i.server.isNewerThan(h) {
		if err := i.server.refresh(ctx); err != nil {
			return until, err
		}
		if valid, known, until = i.try(t); valid {
			return until, nil
		}
	}
	if known {
		return until, errSignature
	}
	return until, unauthenticated("unknown key: the issuer's key set has none of the token's kid")
}

var errSignature = unauthenticated("signature is not valid by the keys that the issuer has now")

// try verifies with the keys at hand.
func (i *issuer) try(t *token) (valid, known bool, until time.Time) {
	now := time.Now()
	set, until := i.keys.current(now)
	if set != nil && !now.After(until) {
		valid, known = set.verify(t)
	}
	return valid, known, until
}

func (i *issuer) detail() string {
	if i.server != nil {
		return i.server.detail()
	}
	return i.State()
}

// Check fetches the key set once, for the operator.
func (i *issuer) Check(ctx context.Context) error {
	if i.server == nil {
		return nil
	}
	variable := "JWT_ISSUER"
	if i.server.address != "" {
		variable = "JWT_JWKS_URL"
		if manyTenants(i.name, "") {
			return fmt.Errorf("JWT_ISSUER is for many tenants: %s", listTenants)
		}
	}
	if err := i.server.fetch(ctx, 0); err != nil {
		return fmt.Errorf("%s at %s: %w", variable, i.server.detail(), err)
	}
	return nil
}

// State is what is known of the keys, in one line.
func (i *issuer) State() string {
	if i.server == nil {
		return "ok, keys from the environment"
	}
	set := i.server.set.Load()
	if set == nil {
		return "no keys yet; " + i.server.availability.String()
	}
	age := time.Duration(i.server.age() * float64(time.Second)).Round(time.Second)
	return fmt.Sprintf("%d keys, fetched %s ago; %s", len(set.keys), age, i.server.availability)
}

// warnings are the keys that cannot be used.
func (i *issuer) warnings() (all []string) {
	if i.server == nil {
		return nil
	}
	if set := i.server.set.Load(); set != nil {
		for _, line := range set.skipped {
			all = append(all, "key set of "+i.server.detail()+": "+line)
		}
	}
	return all
}

// staticKeys are keys from a variable, read again whenever it has new content.
type staticKeys struct {
	source secret.Source
	parse  func(content string) (*keySet, error)
	log    *slog.Logger
	state  atomic.Pointer[staticState]
}

type staticState struct {
	from secret.Value
	set  *keySet
}

func newStaticKeys(source secret.Source, parse func(string) (*keySet, error), log *slog.Logger) (*staticKeys, error) {
	k := &staticKeys{source: source, parse: parse, log: log}
	from := source.Get()
	set, err := parse(from.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s must be %w", source.Name(), err)
	}
	k.state.Store(&staticState{from, set})
	source.SetValidator(func(content string) error {
		if _, err := parse(content); err != nil {
			return fmt.Errorf("must be %w", err)
		}
		return nil
	})
	return k, nil
}

// current takes new content up. Broken content does not get as far as this; see [secret.Source.SetValidator].
func (k *staticKeys) current(now time.Time) (*keySet, time.Time) {
	state, from := k.state.Load(), k.source.Get()
	if state.from != from {
		if set, err := k.parse(from.Reveal()); err == nil && k.state.CompareAndSwap(state, &staticState{from, set}) {
			k.log.Info("new session key in use", "variable", k.source.Name(), "keys", len(set.keys))
		}
		state = k.state.Load()
	}
	return state.set, now.Add(keysMaxAge)
}
