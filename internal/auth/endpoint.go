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
	// maxAnswer limits the body of a session or introspection endpoint's answer, in bytes.
	maxAnswer   = 64 << 10
	maxConns    = 64
	dialTimeout = 3 * time.Second
)

// endpoint is a system that a check asks about each session.
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

// ask sends a request, whose context is the caller's, and passes the answer to read. Errors of read that do not reject
// the caller become ErrUnavailable, and count against the endpoint unless they are a [callerFault]. The answer's
// header is returned even if its body cannot be read.
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
	var fault *callerFault
	switch {
	case err == nil, errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrForbidden):
		e.availability.Record(req.Context(), nil)
		return answer.Header, err
	case !errors.As(err, &fault):
		e.availability.Record(req.Context(), err)
	case fault.answered:
		e.availability.Record(req.Context(), nil)
	}
	return answer.Header, unavailable(e.name + ": " + err.Error())
}

// callerFault is a failed check that the caller may have caused. It does not count against the endpoint, or one
// caller could make a healthy one look unavailable.
type callerFault struct {
	why string
	// answered: the endpoint works, but its answer for this caller is unusable.
	answered bool
}

func (e *callerFault) Error() string { return e.why }

// badStatus is the error for a status that neither accepts nor rejects. Servers send some of them for requests that
// are malformed or too large, and much of the request comes from the caller.
func badStatus(status int, hint string) error {
	why := fmt.Sprintf("it answers with status %d%s", status, hint)
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return &callerFault{why: why}
	}
	return errors.New(why)
}

// checkNames checks the syntax of names of headers (RFC 9110, section 5.6.2) or cookies (RFC 6265, section 4.1.1),
// which is the same.
func checkNames(p *setting.Problems, variable, mustBe string, names ...string) {
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

// checkPath checks the path of a JSON member.
func checkPath(p *setting.Problems, variable, path string) {
	if slices.Contains(strings.Split(path, "."), "") {
		p.Add(variable, "must be the name of a member, or names joined by dots, such as user.email")
	}
}

// checkTimeLimits checks the time-out and cache time of FORWARD or INTROSPECTION.
func checkTimeLimits(p *setting.Problems, prefix string, timeout, cacheTTL time.Duration) {
	p.Between(prefix+"_TIMEOUT", timeout, 10*time.Millisecond, time.Minute)
	p.Between(prefix+"_CACHE_TTL", cacheTTL, 0, maxRemembered)
}
