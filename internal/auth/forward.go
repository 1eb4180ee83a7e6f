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

// notPassedOn are the headers that FORWARD_HEADERS cannot name: they are passed on anyway, set by us, or belong to
// a connection.
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
	fieldNames(p, "FORWARD_COOKIES", "a comma-separated list of names of cookies", f.Cookies...)
	if slices.Contains(f.Cookies, "all") {
		p.Add("FORWARD_COOKIES", "must be left out to pass all cookies on")
	}
	fieldNames(p, "FORWARD_SET_COOKIES", "a comma-separated list of names of cookies", f.SetCookies...)
	fieldNames(p, "FORWARD_HEADERS", "a comma-separated list of names of headers", f.Headers...)
	for _, name := range f.Headers {
		if slices.Contains(notPassedOn, http.CanonicalHeaderKey(name)) {
			p.Add("FORWARD_HEADERS", "must be names of other headers: %s is passed on anyway, or cannot be", name)
		}
	}
	fieldNames(p, "FORWARD_USER_HEADER", "the name of a header", f.UserHeader)
	if f.UserField != "" {
		memberPath(p, "FORWARD_USER_FIELD", f.UserField)
	}
	endpointTimes(p, "FORWARD", f.Timeout, f.CacheTTL)
}

// forwardCheck lets the team's own backend decide: it is asked with the caller's credentials.
type forwardCheck struct {
	ForwardConfig
	trusted    setting.Prefixes
	keptCookie sync.Once // logged
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

// Authenticate asks the backend. 2xx that names a user accepts; 401 and 403 are what they say; anything else
// is [ErrUnavailable].
func (f *forwardCheck) Authenticate(r *http.Request) (Result, error) {
	header, err := f.credentials(r)
	if err != nil {
		return Result{}, err
	}
	f.addContext(header, r)
	var sent strings.Builder
	_ = header.Write(&sent)
	return f.remembered.recallOr([]string{sent.String()}, func() (Result, time.Time, error) {
		result, err := f.user(r.Context(), header)
		return result, time.Time{}, err
	})
}

// credentials are what of the request signs a user in. Negotiate and NTLM do not: they sign in a connection,
// and ours to the backend is used for everybody.
func (f *forwardCheck) credentials(r *http.Request) (http.Header, error) {
	header := http.Header{}
	for _, value := range r.Header["Authorization"] {
		if value != "" && !connectionScheme.MatchString(value) {
			header["Authorization"] = append(header["Authorization"], value)
		}
	}
	if len(header["Authorization"]) > 1 {
		return nil, unauthenticated("more than one Authorization")
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
		return nil, fmt.Errorf("%w: Negotiate and NTLM are not passed on, they sign in a connection", ErrNoCredential)
	}
	if len(header) == 0 {
		return nil, ErrNoCredential
	}
	return header, nil
}

// connectionScheme matches an Authorization in which a server might read Negotiate or NTLM, also after another scheme
// if something in between joined the two.
var connectionScheme = regexp.MustCompile(`(?i)(^|,)\W*(negotiate|ntlm)\b`)

// addContext adds what is no credential and may still matter to the backend. Nothing else of the request is
// passed on.
func (f *forwardCheck) addContext(header http.Header, r *http.Request) {
	header["User-Agent"] = []string{f.UserAgent}
	for _, name := range []string{"Origin", "Referer", "User-Agent"} {
		if values := r.Header[name]; len(values) > 0 {
			header[name] = values
		}
	}
	// Many frameworks answer a caller that wants JSON with 401, and any other with a redirect to a page for
	// signing in.
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

// check asks without any credential. Accepting nobody is an error, and so is anything but a rejection.
func (f *forwardCheck) check(ctx context.Context) error {
	_, host, _ := strings.Cut(setting.Host(f.URL), "://")
	header := http.Header{}
	f.addContext(header, &http.Request{
		Method: http.MethodPost, Host: host, URL: &url.URL{Path: "/token"}, RemoteAddr: "127.0.0.1:0",
		TLS: &tls.ConnectionState{}, // or a backend that wants https redirects
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
