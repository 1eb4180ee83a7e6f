package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/prometheus/client_golang/prometheus"
)

// maxAnswer bounds what is read of a session or introspection endpoint's answer, in bytes.
const maxAnswer = 64 << 10

// ForwardOptions are the options of the check "forward".
type ForwardOptions struct {
	URL string
	// Cookies are the names of those passed on; nil means all.
	Cookies []string
	// UserHeader of the answer names the user; empty means X-Auth-Request-User. UserField is the dotted
	// path of a JSON string in the answer, and takes the header's place.
	UserHeader, UserField string
	Timeout               time.Duration
	// CacheTTL is how long a yes is remembered; 0 means not at all, and a minute is the most.
	CacheTTL time.Duration
	// Remember is how many are remembered; 0 means 20,000.
	Remember int
	// ClientIP is sent as X-Forwarded-For; nil or an empty answer means the peer's address.
	ClientIP func(*http.Request) string
	// Scheme is sent as X-Forwarded-Proto; nil means https if this service itself ended the TLS.
	Scheme func(*http.Request) string
	// Inject adds the trace context of ctx to the headers; nil adds none.
	Inject func(ctx context.Context, h http.Header)
	// Transport asks the endpoint; nil means one of the check's own.
	Transport  http.RoundTripper
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Forward lets the team's own backend decide: it is asked with the caller's cookies and Authorization.
type Forward struct {
	o        ForwardOptions
	cookies  map[string]bool // nil: all
	field    []string        // nil: the user is in the header
	endpoint *endpoint
	verdicts *verdicts // nil: none are remembered
}

// NewForward makes the check. It fails if the URL is not usable.
func NewForward(o ForwardOptions) (*Forward, error) {
	if err := checkURL("FORWARD_URL", o.URL); err != nil {
		return nil, err
	}
	f := &Forward{o: o, endpoint: newEndpoint("session endpoint", maxAnswer, o.Transport, o.Logger)}
	f.o.UserHeader = http.CanonicalHeaderKey(cmp.Or(o.UserHeader, "X-Auth-Request-User"))
	if o.UserField != "" {
		f.field = strings.Split(o.UserField, ".")
	}
	if o.Cookies != nil {
		f.cookies = make(map[string]bool, len(o.Cookies))
		for _, name := range o.Cookies {
			f.cookies[name] = true
		}
	}
	if o.CacheTTL > 0 {
		f.verdicts = newVerdicts("forward", o.Remember, o.Registerer)
	}
	return f, nil
}

// Authenticate asks the backend. A yes is a 2xx that names a valid user; 401 and 403 are what they say;
// anything else is [ErrUnavailable].
func (f *Forward) Authenticate(r *http.Request) (Identity, error) {
	authorization, err := single(r, "Authorization")
	if err != nil && !errors.Is(err, ErrNoCredential) {
		return Identity{}, err
	}
	cookies := pickCookies(r, f.cookies)
	if authorization == "" && cookies == nil {
		return Identity{}, ErrNoCredential
	}
	var h digest
	now := time.Now()
	if f.verdicts != nil {
		h = f.verdicts.hash(append([]string{authorization}, cookies...)...)
		if subject, ok := f.verdicts.recall(h, nil, now); ok {
			return Identity{Subject: subject}, nil
		}
	}
	subject, err := f.ask(r, authorization, cookies)
	if err != nil {
		return Identity{}, err
	}
	if f.verdicts != nil {
		f.verdicts.remember(h, subject, nil, now, now.Add(f.o.CacheTTL))
	}
	return Identity{Subject: subject}, nil
}

// ask makes the call on behalf of r. Nothing else that the caller sent is passed on.
func (f *Forward) ask(r *http.Request, authorization string, cookies []string) (string, error) {
	ctx, cancel := context.WithTimeout(r.Context(), f.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.o.URL, nil)
	if err != nil {
		return "", unavailable("session endpoint: its address is no URL")
	}
	req.Header = http.Header{
		// Many frameworks answer a caller that wants JSON with 401, and any other with a redirect to a
		// page for signing in.
		"Accept":             {"application/json"},
		"User-Agent":         {userAgent},
		"X-Forwarded-Method": {r.Method},
		"X-Forwarded-Proto":  {f.scheme(r)},
		"X-Forwarded-Host":   {r.Host},
		"X-Forwarded-Uri":    {r.URL.RequestURI()},
		"X-Forwarded-For":    {f.clientIP(r)},
	}
	if authorization != "" {
		req.Header["Authorization"] = []string{authorization}
	}
	if cookies != nil {
		req.Header["Cookie"] = cookies
	}
	if f.o.Inject != nil {
		f.o.Inject(ctx, req.Header)
	}
	got, err := f.endpoint.ask(req)
	subject := ""
	if err == nil {
		subject, err = f.read(got)
	}
	if errors.Is(err, ErrUnauthenticated) || errors.Is(err, ErrForbidden) {
		f.endpoint.settle(r.Context(), nil)
		return "", err
	}
	f.endpoint.settle(r.Context(), err)
	if err != nil {
		return "", unavailable("session endpoint: " + err.Error())
	}
	return subject, nil
}

func (f *Forward) scheme(r *http.Request) string {
	switch {
	case f.o.Scheme != nil:
		return f.o.Scheme(r)
	case r.TLS != nil:
		return "https"
	default:
		return "http"
	}
}

func (f *Forward) clientIP(r *http.Request) string {
	if f.o.ClientIP != nil {
		if ip := f.o.ClientIP(r); ip != "" {
			return ip
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "unknown" // RFC 7239, section 6.2
	}
	return host
}

// read is the user that an answer names.
func (f *Forward) read(got answer) (string, error) {
	switch {
	case got.status == http.StatusUnauthorized:
		return "", unauthenticated("the session endpoint said 401")
	case got.status == http.StatusForbidden:
		return "", forbidden("the session endpoint said 403")
	case got.status >= 300 && got.status < 400:
		return "", errors.New("it redirects; it must answer 401 when nobody is signed in")
	case got.status < 200 || got.status > 299:
		return "", fmt.Errorf("it answers with status %d", got.status)
	case isHTML(got):
		return "", errors.New("it answers with a page; it must answer 401 when nobody is signed in")
	case f.field != nil:
		return f.userInBody(got.body)
	default:
		return userInHeader(got.header[f.o.UserHeader])
	}
}

func userInHeader(values []string) (string, error) {
	for _, value := range values {
		if value != values[0] {
			return "", errors.New("it names two users")
		}
	}
	if len(values) == 0 || !ValidSubject(values[0]) {
		return "", errors.New("it says yes and names no valid user in FORWARD_USER_HEADER")
	}
	return values[0], nil
}

// userInBody follows the path through objects. go-jose's decoder is used because it refuses members that
// are there twice, and the wrong case; what comes after the document is refused as by any.
func (f *Forward) userInBody(body []byte) (string, error) {
	var at any
	if json.Unmarshal(body, &at) != nil {
		return "", errors.New("it says yes with a body that is not valid JSON")
	}
	for _, name := range f.field {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	user, _ := at.(string)
	if !ValidSubject(user) {
		return "", errors.New("it says yes and names no valid user in FORWARD_USER_FIELD")
	}
	return user, nil
}

// isHTML finds a page, such as that for signing in. An empty body is none, whatever its type: many
// frameworks call everything text/html.
func isHTML(got answer) bool {
	if len(got.body) == 0 {
		return false
	}
	kind, _, _ := strings.Cut(cmp.Or(got.header.Get("Content-Type"), http.DetectContentType(got.body)), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == "text/html" || kind == "application/xhtml+xml"
}

// Check asks without any credential. A yes to nobody is an error, and so is anything but a clear no.
func (f *Forward) Check(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, f.o.URL, nil)
	if err != nil {
		return errors.New("auth: FORWARD_URL is no URL")
	}
	switch _, err := f.ask(r, "", nil); {
	case err == nil:
		return errors.New("auth: FORWARD_URL says yes to a request without any credential; it must answer 401")
	case errors.Is(err, ErrUnauthenticated), errors.Is(err, ErrForbidden):
		return nil
	default:
		return fmt.Errorf("auth: FORWARD_URL at %s, asked without any credential: %w", where(f.o.URL), err)
	}
}

// State is how the endpoint fared last, in one line.
func (f *Forward) State() string { return f.endpoint.state() }
