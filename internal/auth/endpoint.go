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
	name string // such as "session endpoint"
	Deps
	timeout      time.Duration
	remembered   *remembered
	client       *outgoing.Client
	availability *outgoing.Availability
}

func newEndpoint(check, name string, timeout, cacheTTL time.Duration, deps Deps) *endpoint {
	e := &endpoint{
		name: name, Deps: deps, timeout: timeout,
		client: outgoing.New(outgoing.Options{
			MaxAnswer: maxAnswer, MaxConns: maxConns, DialTimeout: dialTimeout, Transport: deps.Transport,
		}),
		availability: outgoing.NewAvailability(name, deps.Logger),
	}
	if cacheTTL > 0 {
		e.remembered = newRemembered(check, cacheTTL, deps)
	}
	return e
}

// ask sends a request, whose context is the caller's, and has read judge the answer. Errors of read that are no
// verdict on the caller become ErrUnavailable, and count against the endpoint unless they are [ofCaller]. The header
// is that of the answer, of one that cannot be read to its end too.
func (e *endpoint) ask(req *http.Request, read func(outgoing.Answer) error) (http.Header, error) {
	ctx, cancel := context.WithTimeout(req.Context(), e.timeout)
	defer cancel()
	if e.Inject != nil {
		e.Inject(ctx, req.Header)
	}
	answer, err := e.client.Ask(req.WithContext(ctx))
	if err == nil {
		err = read(answer)
	}
	var caller *ofCaller
	switch {
	case err == nil, errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrForbidden):
		e.availability.Record(req.Context(), nil)
		return answer.Header, err
	case !errors.As(err, &caller):
		e.availability.Record(req.Context(), err)
	case caller.answered:
		e.availability.Record(req.Context(), nil)
	}
	return answer.Header, unavailable(e.name + ": " + err.Error())
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
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return &ofCaller{why: why}
	}
	return errors.New(why)
}

// fieldNames holds names of headers to the grammar of HTTP (RFC 9110, section 5.6.2), and names of cookies to the
// same one (RFC 6265, section 4.1.1).
func fieldNames(p *setting.Problems, variable, mustBe string, names ...string) {
	for _, name := range names {
		if !httpguts.ValidHeaderFieldName(name) || name == "*" {
			p.Add(variable, "must be %s", mustBe)
		}
	}
}

// advise is an error of ask without its prefix, and with the variable to check.
func (e *endpoint) advise(err error, variable string) error {
	return fmt.Errorf("%s; check %s", strings.TrimPrefix(err.Error(), unavailable(e.name+": ").Error()), variable)
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
