package auth

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/secret"
)

// IntrospectionOptions are the options of the check "introspection".
type IntrospectionOptions struct {
	URL          string
	ClientID     string
	ClientSecret *secret.Var
	// RequiredScope is one or more words, all needed; empty means none.
	RequiredScope string
	// Audience must be among the token's; empty means any.
	Audience string
	// SubjectField of the answer names the user; empty means sub.
	SubjectField string
	Timeout      time.Duration
	// CacheTTL is how long a yes is remembered; 0 means not at all, and a minute is the most. Never
	// past the token's exp.
	CacheTTL time.Duration
	// Remember is how many are remembered; 0 means 20,000.
	Remember int
	// Inject adds the trace context of ctx to the headers; nil adds none.
	Inject func(ctx context.Context, h http.Header)
	// Transport asks the endpoint; nil means one of the check's own.
	Transport  http.RoundTripper
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Introspection asks an OAuth 2.0 server about an opaque bearer token (RFC 7662).
type Introspection struct {
	o        IntrospectionOptions
	scope    []string
	endpoint *endpoint
	verdicts *verdicts // nil: none are remembered
}

// NewIntrospection makes the check. It fails if the URL is not usable or the client is not whole.
func NewIntrospection(o IntrospectionOptions) (*Introspection, error) {
	if err := checkURL("INTROSPECTION_URL", o.URL); err != nil {
		return nil, err
	}
	if o.ClientID == "" || o.ClientSecret == nil {
		return nil, errors.New("auth: the check introspection needs INTROSPECTION_CLIENT_ID and INTROSPECTION_CLIENT_SECRET")
	}
	i := &Introspection{
		o: o, scope: strings.Fields(o.RequiredScope),
		endpoint: newEndpoint("introspection endpoint", maxAnswer, o.Transport, o.Logger),
	}
	i.o.SubjectField = cmp.Or(o.SubjectField, "sub")
	if o.CacheTTL > 0 {
		i.verdicts = newVerdicts("introspection", o.Remember, o.Registerer)
	}
	return i, nil
}

// introspected is the part of an answer that decides (RFC 7662, section 2.2).
type introspected struct {
	Active    *bool            `json:"active"`
	TokenType string           `json:"token_type"`
	Scope     any              `json:"scope"` // a string; some servers say an array
	Audience  *jwt.Audience    `json:"aud"`
	Expiry    *jwt.NumericDate `json:"exp"`
	subject   string
}

// Authenticate asks about the bearer token. What is remembered is a yes after every rule, so that a hit
// has passed audience and scope too.
func (i *Introspection) Authenticate(r *http.Request) (Identity, error) {
	token, err := bearer(r)
	if err != nil {
		return Identity{}, err
	}
	if !isB64Token(token) {
		return Identity{}, unauthenticated("malformed bearer token")
	}
	var h digest
	now := time.Now()
	if i.verdicts != nil {
		h = i.verdicts.hash(token)
		if subject, ok := i.verdicts.recall(h, nil, now); ok {
			return Identity{Subject: subject}, nil
		}
	}
	got, err := i.ask(r.Context(), token)
	if err != nil {
		return Identity{}, err
	}
	end, err := i.judge(got, time.Now())
	if err != nil {
		return Identity{}, err
	}
	if i.verdicts != nil {
		until := now.Add(i.o.CacheTTL)
		if end.Before(until) {
			until = end
		}
		i.verdicts.remember(h, got.subject, nil, now, until)
	}
	return Identity{Subject: got.subject}, nil
}

// ask makes the call. Its error wraps ErrUnavailable.
func (i *Introspection) ask(parent context.Context, token string) (*introspected, error) {
	ctx, cancel := context.WithTimeout(parent, i.o.Timeout)
	defer cancel()
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.o.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, unavailable("introspection endpoint: its address is no URL")
	}
	req.Header = http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/x-www-form-urlencoded"},
		"User-Agent":   {userAgent},
		// Without a value it is not sent, and tells net/http that the question may be asked again on a
		// fresh connection if an idle one turns out to be closed.
		"Idempotency-Key": nil,
	}
	// RFC 6749, section 2.3.1: id and secret are form-encoded before they become user and password.
	req.SetBasicAuth(url.QueryEscape(i.o.ClientID), url.QueryEscape(i.o.ClientSecret.Get().Reveal()))
	if i.o.Inject != nil {
		i.o.Inject(ctx, req.Header)
	}
	var parsed *introspected
	got, err := i.endpoint.ask(req)
	if err == nil {
		parsed, err = i.read(got)
	}
	i.endpoint.settle(parent, err)
	if err != nil {
		return nil, unavailable("introspection endpoint: " + err.Error())
	}
	return parsed, nil
}

// read is strict about form: what is not RFC 7662's says nothing of the token.
func (i *Introspection) read(got answer) (*introspected, error) {
	switch {
	case got.status == http.StatusUnauthorized, got.status == http.StatusForbidden:
		return nil, fmt.Errorf("it refuses INTROSPECTION_CLIENT_ID and its secret with status %d", got.status)
	case got.status != http.StatusOK:
		return nil, fmt.Errorf("it answers with status %d", got.status)
	}
	var parsed introspected
	var members map[string]any
	if json.Unmarshal(got.body, &members) != nil || json.Unmarshal(got.body, &parsed) != nil || parsed.Active == nil {
		return nil, errors.New("its answer is not that of RFC 7662")
	}
	if !*parsed.Active {
		return &parsed, nil
	}
	parsed.subject, _ = members[i.o.SubjectField].(string)
	if !ValidSubject(parsed.subject) {
		return nil, errors.New("it calls the token active and names no valid user in INTROSPECTION_SUBJECT_FIELD")
	}
	return &parsed, nil
}

// judge applies the rules to a well-formed answer, and tells when the token ends.
func (i *Introspection) judge(got *introspected, now time.Time) (end time.Time, err error) {
	end = time.Unix(math.MaxInt32, 0).AddDate(100, 0, 0)
	if got.Expiry != nil {
		end = got.Expiry.Time()
	}
	switch {
	case !*got.Active:
		return end, unauthenticated("token is not active")
	case !now.Before(end):
		return end, unauthenticated("token expired")
	case got.TokenType != "" && !strings.EqualFold(got.TokenType, "Bearer"):
		return end, unauthenticated("token is not a bearer token")
	case i.o.Audience != "" && (got.Audience == nil || !got.Audience.Contains(i.o.Audience)):
		return end, unauthenticated("token of another audience")
	}
	for _, word := range i.scope {
		if !holds(got.Scope, RequiredClaim{Name: "scope", Value: word}) {
			return end, forbidden("required scope is missing")
		}
	}
	return end, nil
}

// Check asks about a token that nobody issued. Anything but a clear no is an error.
func (i *Introspection) Check(ctx context.Context) error {
	got, err := i.ask(ctx, rand.Text())
	switch {
	case err != nil:
		return fmt.Errorf("auth: INTROSPECTION_URL at %s: %w", where(i.o.URL), err)
	case *got.Active:
		return errors.New("auth: INTROSPECTION_URL calls a random token active")
	}
	return nil
}

// State is how the endpoint fared last, in one line.
func (i *Introspection) State() string { return i.endpoint.state() }
