package oidc_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/test/harness"
)

// byIssuer is the environment of a service that knows of the provider by JWT_ISSUER alone.
func byIssuer(upstream *harness.Sethealth, p *provider) harness.Env {
	return upstream.Env().With(harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": p.URL, "RATE_LIMIT": "off"})
}

func byIntrospection(upstream *harness.Sethealth, p *provider) harness.Env {
	return upstream.Env().With(harness.Env{
		"SESSION_CHECK": "introspection", "JWT_SECRET": "-", "JWT_AUDIENCE": "-",
		"INTROSPECTION_URL": p.URL + "/oauth/introspect", "INTROSPECTION_CLIENT_ID": "tokenvend", "INTROSPECTION_CLIENT_SECRET": clientSecret,
		"INTROSPECTION_AUDIENCE": audience, "INTROSPECTION_REQUIRED_SCOPE": "images",
	})
}

// started is a provider that answers and a service that has its keys.
func started(t *testing.T, environment func(*harness.Sethealth, *provider) harness.Env) (*harness.Sethealth, *provider, *harness.Service) {
	t.Helper()
	upstream, p := harness.NewSethealth(t), newProvider(t)
	p.Up()
	s := harness.Start(t, environment(upstream, p))
	s.Ready()
	return upstream, p, s
}

func TestAUserSignedInByTheCodeFlowGetsATokenByDiscoveryAlone(t *testing.T) {
	upstream, p, s := started(t, byIssuer)
	got := p.signIn("viewer", "alice")
	upstream.RequireUser(t, "alice", s.Ask(got.Access))

	again := p.token(url.Values{"grant_type": {"refresh_token"}, "client_id": {"viewer"}, "refresh_token": {got.Refresh}})
	upstream.RequireUser(t, "alice", s.Ask(again.Access))
	upstream.RequireUser(t, "robot", s.Ask(p.robot()))
	for _, typ := range []string{"JWT", "at+jwt", "application/at+jwt"} {
		upstream.RequireUser(t, "bob", s.Ask(p.sign(typ, "", p.claims("bob"))))
	}

	for name, token := range map[string]string{
		"the ID token, which is for another audience":   got.ID,
		"the refresh token":                             again.Refresh,
		"an opaque token":                               p.signIn("opaque", "alice").Access,
		"a logout token":                                p.sign("logout+jwt", "", p.claims("alice")),
		"the access token of another issuer":            p.sign("JWT", "", with(p.claims("alice"), "iss", "https://other.example.com")),
		"the access token of another issuer's spelling": p.sign("JWT", "", with(p.claims("alice"), "iss", p.URL+"/")),
		"the access token with another signature":       got.Access[:strings.LastIndex(got.Access, ".")+1] + again.Access[strings.LastIndex(again.Access, ".")+1:],
	} {
		answer := s.Ask(token)
		assert.Equal(t, 401, answer.Status, name)
		assert.Equal(t, "unauthenticated", answer.Code(), name)
	}
}

func with(claims map[string]any, name string, value any) map[string]any {
	claims[name] = value
	return claims
}

func TestAClaimOfTheProviderIsRequired(t *testing.T) {
	upstream, p := harness.NewSethealth(t), newProvider(t)
	p.Up()
	s := harness.Start(t, byIssuer(upstream, p).With(harness.Env{"JWT_REQUIRED_CLAIMS": "roles=viewer"}))
	s.Ready()
	upstream.RequireUser(t, "alice", s.Ask(p.signIn("viewer", "alice").Access))
	assert.Equal(t, "forbidden", s.Ask(p.sign("JWT", "", p.claims("alice"))).Code())
}

func TestAnOpaqueTokenIsAskedOfTheProviderUntilItIsRevoked(t *testing.T) {
	upstream, p, s := started(t, byIntrospection)
	got := p.signIn("opaque", "alice")
	upstream.RequireUser(t, "alice", s.Ask(got.Access))
	assert.Equal(t, 401, s.Ask(got.Refresh).Status, "a refresh token")
	assert.Equal(t, 401, s.Ask("nonsense").Status)
	p.revoke("opaque", got.Access)
	answer := s.Ask(got.Access)
	assert.Equal(t, 401, answer.Status, answer.Body)
	assert.Contains(t, answer.Header.Get("WWW-Authenticate"), "invalid_token")
	assert.NotContains(t, s.Output(), "canary")
}

func TestAnOutageOfIntrospectionIsNotARefusal(t *testing.T) {
	upstream, p, s := started(t, byIntrospection)
	got := p.signIn("opaque", "alice")
	upstream.RequireUser(t, "alice", s.Ask(got.Access))
	p.Down()
	answer := s.Ask(got.Access)
	assert.Equal(t, "session_check_unavailable", answer.Code())
	assert.NotEmpty(t, answer.Header.Get("Retry-After"))
	assert.Equal(t, 200, s.Do("GET", "/readyz", "").Status, "one dependency down takes no replica out")
	p.Up()
	upstream.RequireUser(t, "alice", s.Ask(got.Access))
}

func TestAWrongClientSecretIsTheOperatorsTroubleAndNotTheUsers(t *testing.T) {
	upstream, p := harness.NewSethealth(t), newProvider(t)
	p.Up()
	env := byIntrospection(upstream, p).With(harness.Env{"INTROSPECTION_CLIENT_SECRET": "wrong"})
	s := harness.Start(t, env)
	assert.Equal(t, "session_check_unavailable", s.Ask(p.signIn("opaque", "alice").Access).Code())
	assert.Regexp(t, `(?m)^FAIL    introspection: .*INTROSPECTION_CLIENT`, harness.Run(t, env, "check").Stdout)
}

func TestCheckReachesTheProvider(t *testing.T) {
	upstream, p := harness.NewSethealth(t), newProvider(t)
	env := byIntrospection(upstream, p).With(byIssuer(upstream, p)).With(harness.Env{"SESSION_CHECK": "jwt,introspection"})
	down := harness.Run(t, env, "check")
	assert.Equal(t, 1, down.Code)
	assert.Len(t, regexp.MustCompile(`(?m)^FAIL    (jwt|introspection): `).FindAllString(down.Stdout, -1), 2, down.Stdout)
	p.Up()
	up := harness.Run(t, env, "check")
	assert.Equal(t, 0, up.Code, up.Stdout)
	assert.Len(t, regexp.MustCompile(`(?m)^ok      (sethealth|jwt|introspection): `).FindAllString(up.Stdout, -1), 3, up.Stdout)
}

func TestARotatedKeyIsTakenUpAtOnceAndTheRetiredOneRefused(t *testing.T) {
	upstream, p, s := started(t, byIssuer)
	before := p.signIn("viewer", "alice").Access
	upstream.RequireUser(t, "alice", s.Ask(before)) // and is remembered as good
	fetches := p.fetches.Load()
	p.storage.rotate()
	after := p.signIn("viewer", "bob").Access
	upstream.RequireUser(t, "bob", s.Ask(after))
	assert.Equal(t, fetches+1, p.fetches.Load(), "one forced fetch")
	assert.Equal(t, 401, s.Ask(before).Status, "signed with a key that the provider has retired")
	upstream.RequireUser(t, "bob", s.Ask(after))
	assert.Equal(t, fetches+1, p.fetches.Load(), "the retired key is asked for no more")
}
