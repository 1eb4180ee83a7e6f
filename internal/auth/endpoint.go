package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/setting"
)

const (
	// maxAnswer bounds what is read of a session or introspection endpoint's answer, in bytes.
	maxAnswer   = 64 << 10
	maxConns    = 64
	dialTimeout = 3 * time.Second
)

// endpoint is another system that a check asks, its last known state, and whom it accepted lately.
type endpoint struct {
	name              string // such as "session endpoint"
	timeout, cacheTTL time.Duration
	remembered        *remembered // nil: nobody is
	inject            func(ctx context.Context, h http.Header)
	client            *outgoing.Client
	availability      *outgoing.Availability
}

func newEndpoint(check, name string, timeout, cacheTTL time.Duration, deps Deps) *endpoint {
	e := &endpoint{
		name: name, timeout: timeout, cacheTTL: cacheTTL, inject: deps.Inject,
		client: outgoing.New(outgoing.Options{
			MaxAnswer: maxAnswer, MaxConns: maxConns, DialTimeout: dialTimeout, Transport: deps.Transport,
		}),
		availability: outgoing.NewAvailability(name, deps.Logger),
	}
	if cacheTTL > 0 {
		e.remembered = newRemembered(check, deps)
	}
	return e
}

// recallOr asks, unless the same was accepted shortly before. What is remembered has passed every rule. ask
// returns when the session ends, if that is known.
func (e *endpoint) recallOr(sent []string, ask func() (Result, time.Time, error)) (Result, error) {
	if e.remembered == nil {
		result, _, err := ask()
		return result, err
	}
	now, key := time.Now(), e.remembered.hash(sent...)
	if id, ok := e.remembered.recall(key, now); ok {
		return Result{Identity: id}, nil
	}
	result, end, err := ask()
	// A session that was given another cookie may not be accepted by the old one again.
	if err == nil && result.SetCookies == nil {
		until := now.Add(e.cacheTTL)
		if !end.IsZero() && end.Before(until) {
			until = end
		}
		e.remembered.remember(key, result.Identity, now, until)
	}
	return result, err
}

// ask sends a request on behalf of the caller whose context parent is, and has read judge the answer. Errors
// of read that are no verdict on the caller become ErrUnavailable, and count against the endpoint unless
// they are [ofCaller].
func (e *endpoint) ask(parent context.Context, build func(ctx context.Context) (*http.Request, error), read func(outgoing.Answer) error) error {
	ctx, cancel := context.WithTimeout(parent, e.timeout)
	defer cancel()
	req, err := build(ctx)
	if err != nil {
		return unavailable(e.name + ": its address cannot be used")
	}
	if e.inject != nil {
		e.inject(ctx, req.Header)
	}
	answer, err := e.client.Ask(req)
	if err == nil {
		err = read(answer)
	}
	var caller *ofCaller
	switch {
	case err == nil, errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrForbidden):
		e.availability.Record(parent, nil)
		return err
	case errors.As(err, &caller) && caller.answered:
		e.availability.Record(parent, nil)
	case caller == nil:
		e.availability.Record(parent, err)
	}
	return unavailable(e.name + ": " + err.Error())
}

// ofCaller is a failed check for which what the caller sent may be the reason. It is not held against the
// endpoint, or one caller could make a healthy one look unavailable.
type ofCaller struct {
	why string
	// answered: the endpoint works, what it says of this caller is of no use.
	answered bool
}

func (e *ofCaller) Error() string { return e.why }

// badStatus is an answer whose status says nothing of the caller's session. Servers answer so to requests
// that are malformed or too large, and much of the request is the caller's.
func badStatus(status int, hint string) error {
	why := fmt.Sprintf("it answers with status %d%s", status, hint)
	if slices.Contains([]int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge}, status) {
		return &ofCaller{why: why}
	}
	return errors.New(why)
}

// headerName holds a value to the grammar of names in HTTP (RFC 9110, section 5.6.2).
func headerName(p *setting.Problems, variable, value string) {
	if !httpguts.ValidHeaderFieldName(value) {
		p.Add(variable, "must be the name of a header")
	}
}

func cookieNames(p *setting.Problems, variable string, names setting.List) {
	for _, name := range names {
		if !httpguts.ValidHeaderFieldName(name) { // the same grammar (RFC 6265, section 4.1.1)
			p.Add(variable, "must be a comma-separated list of names of cookies")
		}
	}
}

// memberPath holds a path of a JSON member to a form that can be meant.
func memberPath(p *setting.Problems, variable, path string) {
	if slices.Contains(strings.Split(path, "."), "") {
		p.Add(variable, "must be the name of a member, or names joined by dots, such as user.email")
	}
}

// endpointTimes holds the times of FORWARD_ or INTROSPECTION_ within bounds.
func endpointTimes(p *setting.Problems, prefix string, timeout, cacheTTL time.Duration) {
	p.Between(prefix+"_TIMEOUT", timeout, 10*time.Millisecond, time.Minute)
	p.Between(prefix+"_CACHE_TTL", cacheTTL, 0, maxRemembered)
}
