package auth

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

// keySource is where a [JWT] has its keys from: a [followed] variable or a [keyServer].
type keySource interface {
	// current is the set in use, or nil. It is on the path of every request.
	current(now time.Time) *keySet
	// refresh asks for the set again, because a token named a key that current lacks. The error says
	// that the source cannot tell at present.
	refresh(ctx context.Context) error
}

// followed is keys from a variable, read again whenever the variable has new content.
type followed struct {
	source *secret.Var
	parse  func(content string) (*keySet, error)
	log    *slog.Logger
	mu     sync.Mutex
	state  atomic.Pointer[followedState]
}

type followedState struct {
	from secret.Value
	set  *keySet
}

func newFollowed(source *secret.Var, parse func(string) (*keySet, error), log *slog.Logger) (*followed, error) {
	f := &followed{source: source, parse: parse, log: log}
	from := source.Get()
	set, err := parse(from.Reveal())
	if err != nil {
		return nil, err
	}
	f.state.Store(&followedState{from: from, set: set})
	source.Accept(func(content string) error {
		_, err := parse(content)
		return err
	})
	return f, nil
}

func (f *followed) current(time.Time) *keySet {
	state := f.state.Load()
	if state.from == f.source.Get() {
		return state.set
	}
	return f.rebuild()
}

// rebuild takes new content up. Broken content does not get as far as this; see [secret.Var.Accept].
func (f *followed) rebuild() *keySet {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, from := f.state.Load(), f.source.Get()
	if state.from == from {
		return state.set
	}
	set, err := f.parse(from.Reveal())
	if err != nil {
		return state.set
	}
	f.log.Info("new session key in use", "variable", f.source.Name(), "keys", len(set.keys))
	f.state.Store(&followedState{from: from, set: set})
	return set
}

// refresh has nothing to ask: these keys have no names, so that no token can name a missing one.
func (f *followed) refresh(context.Context) error { return nil }

// flight is one fetch that any number may wait for.
type flight struct {
	done chan struct{}
	err  error
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return errors.New("the caller left")
	}
}
