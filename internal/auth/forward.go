package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/setting"
)

// ForwardConfig configures the check "forward".
type ForwardConfig struct {
	URL        string        `envconfig:"FORWARD_URL" group:"Session check forward" shown:"required by forward" desc:"the endpoint of your backend that says who is signed in"`
	Cookies    setting.List  `envconfig:"FORWARD_COOKIES" group:"Session check forward" shown:"all" desc:"names of the cookies to pass on"`
	Headers    setting.List  `envconfig:"FORWARD_HEADERS" group:"Session check forward" desc:"names of more headers to pass on that are credentials, such as X-Session-Token"`
	SetCookies setting.List  `envconfig:"FORWARD_SET_COOKIES" group:"Session check forward" desc:"names of cookies that the endpoint may set in the caller's browser"`
	UserHeader string        `envconfig:"FORWARD_USER_HEADER" group:"Session check forward" default:"X-Auth-Request-User" desc:"response header that names the user"`
	UserField  string        `envconfig:"FORWARD_USER_FIELD" group:"Session check forward" desc:"instead: path of a member of the JSON answer, such as user.email"`
	Timeout    time.Duration `envconfig:"FORWARD_TIMEOUT" group:"Session check forward" default:"2s" desc:"time limit of one call"`
	CacheTTL   time.Duration `envconfig:"FORWARD_CACHE_TTL" group:"Session check forward" default:"0s" desc:"remember an accepted session for this long; at most 1m"`
}

// notPassedOn are the headers that FORWARD_HEADERS cannot name: they are always passed on, set by tokenvend, or
// specific to a connection.
var notPassedOn = []string{
	"Authorization", "Cookie", "Origin", "Referer", "User-Agent",
	"Accept", "X-Forwarded-Method", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri", "X-Forwarded-For",
	"Connection", "Content-Length", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

func (c *Config) validateForward(p *setting.Problems) {
	f := c.ForwardConfig
	if f.URL == "" {
		p.Required("FORWARD_URL", "the endpoint of your backend that says who is signed in")
	} else if err := setting.CheckAnyURL(f.URL); err != nil {
		p.Add("FORWARD_URL", "%s", err)
	}
	checkNames(p, "FORWARD_COOKIES", "a comma-separated list of names of cookies", f.Cookies...)
	if slices.Contains(f.Cookies, "all") {
		p.Add("FORWARD_COOKIES", "must be left out to pass all cookies on")
	}
	checkNames(p, "FORWARD_SET_COOKIES", "a comma-separated list of names of cookies", f.SetCookies...)
	checkNames(p, "FORWARD_HEADERS", "a comma-separated list of names of headers", f.Headers...)
	for _, name := range f.Headers {
		if slices.Contains(notPassedOn, http.CanonicalHeaderKey(name)) {
			p.Add("FORWARD_HEADERS", "must be names of other headers: %s is passed on anyway, or cannot be", name)
		}
	}
	checkNames(p, "FORWARD_USER_HEADER", "the name of a header", f.UserHeader)
	if f.UserField != "" {
		checkPath(p, "FORWARD_USER_FIELD", f.UserField)
	}
	checkTimeLimits(p, "FORWARD", f.Timeout, f.CacheTTL)
}

// forwardCheck asks the team's own backend, with the caller's credentials.
type forwardCheck struct {
	ForwardConfig
	trusted    setting.Prefixes
	keptCookie sync.Once // warns of cookies that are not passed on
	*endpoint
}

func newForwardCheck(c Config, deps Deps) check {
	f := &forwardCheck{
		ForwardConfig: c.ForwardConfig, trusted: c.TrustedProxies,
		endpoint: newEndpoint("forward", "session endpoint", c.ForwardConfig.Timeout, c.ForwardConfig.CacheTTL, deps),
	}
	f.UserHeader = http.CanonicalHeaderKey(f.UserHeader)
	return f
}

// Authenticate asks the backend. A 2xx that names a user accepts, 401 and 403 reject, and anything else is
// [ErrUnavailable].
func (f *forwardCheck) Authenticate(r *http.Request) (Result, error) {
	header, err := f.credentials(r)
	if err != nil {
		return Result{}, err
	}
	f.addContext(header, r)
	var sent strings.Builder
	_ = header.Write(&sent)
	return f.remembered.recallOr(sent.String(), func() (Result, time.Time, error) {
		result, err := f.user(r.Context(), header)
		return result, time.Time{}, err
	})
}

// credentials returns the headers that sign a user in. Negotiate and NTLM are left out: they authenticate a
// connection, and all users share those to the backend.
func (f *forwardCheck) credentials(r *http.Request) (http.Header, error) {
	header := http.Header{}
	for _, value := range r.Header["Authorization"] {
		if value != "" && !connectionScheme.MatchString(value) {
			header["Authorization"] = append(header["Authorization"], value)
		}
	}
	if len(header["Authorization"]) > 1 {
		return nil, unauthenticated("header Authorization was sent more than once")
	}
	if cookies := pickCookies(r, f.Cookies); cookies != "" {
		header["Cookie"] = []string{cookies}
	}
	for _, name := range f.Headers {
		name = http.CanonicalHeaderKey(name)
		value, err := single(r, name)
		if err == nil {
			header[name] = []string{value}
		} else if !errors.Is(err, ErrNoCredential) {
			return nil, err
		}
	}
	if len(header) == 0 && slices.ContainsFunc(r.Header["Authorization"], connectionScheme.MatchString) {
		return nil, fmt.Errorf("%w: Negotiate and NTLM are not passed on, because they authenticate a connection", ErrNoCredential)
	}
	if len(header) == 0 {
		return nil, ErrNoCredential
	}
	return header, nil
}

// connectionScheme matches an Authorization in which a server might read Negotiate or NTLM, even behind another
// scheme, because intermediaries may join headers.
var connectionScheme = regexp.MustCompile(`(?i)(^|,)\W*(negotiate|ntlm)\b`)

// addContext adds the headers that are not credentials but may matter to the backend. No others are passed on.
func (f *forwardCheck) addContext(header http.Header, r *http.Request) {
	header["User-Agent"] = []string{f.UserAgent}
	for _, name := range []string{"Origin", "Referer", "User-Agent"} {
		if values := r.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	// Many frameworks answer 401 to a caller that wants JSON, and redirect any other to a sign-in page.
	header["Accept"] = []string{"application/json"}
	header["X-Forwarded-Method"] = []string{r.Method}
	header["X-Forwarded-Proto"] = []string{Scheme(r, f.trusted)}
	header["X-Forwarded-Host"] = []string{r.Host}
	header["X-Forwarded-Uri"] = []string{r.URL.RequestURI()}
	header["X-Forwarded-For"] = []string{ClientIP(r, f.trusted)}
}

func (f *forwardCheck) user(ctx context.Context, header http.Header) (result Result, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return result, unavailable("FORWARD_URL is not a URL")
	}
	req.Header = header
	answered, err := f.ask(req, func(answer outgoing.Answer) (err error) {
		result.Name, err = f.read(answer)
		return err
	})
	result.SetCookies = f.passedCookies(answered["Set-Cookie"])
	return result, err
}

func (f *forwardCheck) dependencies() []Dependency {
	return []Dependency{{"forward", setting.Host(f.URL), f.check, f.availability.String}}
}

// check asks without any credential. Anything but a rejection is an error.
func (f *forwardCheck) check(ctx context.Context) error {
	_, host, _ := strings.Cut(setting.Host(f.URL), "://")
	header := http.Header{}
	f.addContext(header, &http.Request{
		Method: http.MethodPost, Host: host, URL: &url.URL{Path: "/token"}, RemoteAddr: "127.0.0.1:0",
		TLS: &tls.ConnectionState{}, // backends that require https would redirect
	})
	switch _, err := f.user(ctx, header); {
	case err == nil:
		return errors.New("FORWARD_URL accepts a request without any credential, so it would accept anyone; it must answer 401")
	case errors.Is(err, ErrUnavailable):
		return fmt.Errorf("asked without any credential: %w", f.advise(err, "FORWARD_URL"))
	default:
		return nil
	}
}
