package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// IntrospectionConfig configures the check "introspection".
type IntrospectionConfig struct {
	URL           string        `envconfig:"INTROSPECTION_URL" group:"Session check introspection" shown:"required by introspection" desc:"the RFC 7662 endpoint"`
	ClientID      string        `envconfig:"INTROSPECTION_CLIENT_ID" group:"Session check introspection" shown:"required by introspection" desc:"the client that asks it"`
	ClientSecret  secret.Source `envconfig:"INTROSPECTION_CLIENT_SECRET" group:"Session check introspection" shown:"required by introspection" desc:"that client's secret"`
	Auth          string        `envconfig:"INTROSPECTION_AUTH" group:"Session check introspection" default:"basic" desc:"how the client proves itself: basic, or post (client_secret_post)"`
	RequiredScope string        `envconfig:"INTROSPECTION_REQUIRED_SCOPE" group:"Session check introspection" desc:"a scope that the token must have; missing: 403"`
	Audience      string        `envconfig:"INTROSPECTION_AUDIENCE" group:"Session check introspection" desc:"an audience that the token must name"`
	SubjectField  string        `envconfig:"INTROSPECTION_SUBJECT_FIELD" group:"Session check introspection" default:"sub" desc:"path of the member of the answer that names the user"`
	Timeout       time.Duration `envconfig:"INTROSPECTION_TIMEOUT" group:"Session check introspection" default:"2s" desc:"time limit of one call"`
	CacheTTL      time.Duration `envconfig:"INTROSPECTION_CACHE_TTL" group:"Session check introspection" default:"0s" desc:"remember an accepted token for this long, never past its exp; at most 1m"`
}

func (c *Config) validateIntrospection(p *setting.Problems) {
	i := c.IntrospectionConfig
	if i.URL == "" {
		p.Required("INTROSPECTION_URL", "the RFC 7662 endpoint")
	} else if err := setting.CheckURL(i.URL, c.InsecureHTTPHosts); err != nil {
		p.Add("INTROSPECTION_URL", "%s", err)
	}
	if i.ClientID == "" {
		p.Required("INTROSPECTION_CLIENT_ID", "the client that asks INTROSPECTION_URL")
	}
	if !i.ClientSecret.IsSet() {
		p.Required("INTROSPECTION_CLIENT_SECRET", "or INTROSPECTION_CLIENT_SECRET_FILE: the secret of INTROSPECTION_CLIENT_ID")
	}
	p.OneOf("INTROSPECTION_AUTH", i.Auth, "basic", "post")
	checkPath(p, "INTROSPECTION_SUBJECT_FIELD", i.SubjectField)
	checkTimeLimits(p, "INTROSPECTION", i.Timeout, i.CacheTTL)
}

// introspectionCheck asks an OAuth 2.0 server about an opaque bearer token (RFC 7662).
type introspectionCheck struct {
	IntrospectionConfig
	*endpoint
}

func newIntrospectionCheck(c Config, deps Deps) check {
	i := c.IntrospectionConfig
	return &introspectionCheck{i, newEndpoint("introspection", "introspection endpoint", i.Timeout, i.CacheTTL, deps)}
}

// Authenticate asks about the bearer token.
func (i *introspectionCheck) Authenticate(r *http.Request) (Result, error) {
	token, err := bearer(r)
	if err != nil {
		return Result{}, err
	}
	if len(token) > maxToken || !b64Token.MatchString(token) {
		return Result{}, unauthenticated("bearer token is malformed or longer than 16 KiB")
	}
	return i.remembered.recallOr(token, func() (Result, time.Time, error) { return i.user(r.Context(), token) })
}

// user returns the user that the endpoint names, and when the token expires if that is known.
func (i *introspectionCheck) user(ctx context.Context, token string) (result Result, end time.Time, err error) {
	req, err := i.request(ctx, token)
	if err != nil {
		return result, end, unavailable("INTROSPECTION_URL is not a URL")
	}
	_, err = i.ask(req, func(answer outgoing.Answer) error {
		members, err := readIntrospected(answer)
		if err == nil {
			result.Name, end, err = i.evaluate(members, time.Now())
		}
		return err
	})
	return result, end, err
}

func (i *introspectionCheck) request(ctx context.Context, token string) (*http.Request, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	if i.Auth == "post" {
		form.Set("client_id", i.ClientID)
		form.Set("client_secret", i.ClientSecret.Get().Reveal())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, i.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{
		"Accept":       {"application/json"},
		"Content-Type": {"application/x-www-form-urlencoded"},
		"User-Agent":   {i.UserAgent},
		// With no value it is not sent, but lets net/http retry if an idle connection was closed.
		"Idempotency-Key": nil,
	}
	if i.Auth != "post" {
		// RFC 6749, section 2.3.1: id and secret are form-encoded before they become user and password.
		req.SetBasicAuth(url.QueryEscape(i.ClientID), url.QueryEscape(i.ClientSecret.Get().Reveal()))
	}
	return req, nil
}

func (i *introspectionCheck) dependencies() []Dependency {
	return []Dependency{{"introspection", setting.Host(i.URL), i.check, i.availability.String}}
}

// check asks about a random token. Anything but a rejection is an error.
func (i *introspectionCheck) check(ctx context.Context) error {
	switch _, _, err := i.user(ctx, rand.Text()); {
	case errors.Is(err, errInactive):
		return nil
	case errors.Is(err, ErrUnavailable):
		return i.advise(err, "INTROSPECTION_URL")
	default:
		return errors.New("INTROSPECTION_URL calls a random token active, so it would accept anyone")
	}
}
