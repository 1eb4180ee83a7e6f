package auth_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

// allChecks makes a chain of jwt, forward and proxy, with answers of the backend.
func allChecks(t *testing.T, answers transport, change func(*options)) *auth.Chain {
	t.Helper()
	c := jwtConfig()
	c.SessionCheck = setting.List{"jwt", "forward", "proxy"}
	c.Secret = static("JWT_SECRET", hmacKey)
	c.ForwardConfig = auth.ForwardConfig{URL: "https://backend.example/session", UserHeader: userHeader, Timeout: time.Second}
	c.ProxyConfig, c.TrustedProxies = auth.ProxyConfig{UserHeader: "X-Forwarded-User"}, proxies
	return build(t, c, answers, func(c *auth.Config, d *auth.Deps) {
		if change != nil {
			change(optionsOf(c, d))
		}
	})
}

func TestTheFirstCheckWithACredentialDecides(t *testing.T) {
	t.Parallel()
	token := sign(jose.HS256, hmacKey, nil, good())
	for _, test := range []struct {
		name    string
		answer  int
		headers []string
		want    error
		id      auth.Identity
		outcome string
	}{
		{"jwt accepts", 0, []string{"Authorization", "Bearer " + token, "Cookie", "a=1"}, nil, auth.Identity{Check: "jwt", Issuer: issuer, Name: "alice"}, "jwt/ok"},
		{"jwt rejects, whatever other credentials there are", 0, []string{"Authorization", "Bearer x", "Cookie", "a=1"}, auth.ErrUnauthenticated, auth.Identity{Check: "jwt"}, "jwt/unauthenticated"},
		{"forward accepts", 200, []string{"Cookie", "a=1"}, nil, auth.Identity{Check: "forward", Name: "alice"}, "forward/ok"},
		{"forward forbids", 403, []string{"Cookie", "a=1"}, auth.ErrForbidden, auth.Identity{Check: "forward", Name: "alice"}, "forward/forbidden"},
		{"forward cannot be asked", 500, []string{"Cookie", "a=1"}, auth.ErrUnavailable, auth.Identity{Check: "forward"}, "forward/unavailable"},
		{"no credential, so no check", 0, nil, auth.ErrNoCredential, auth.Identity{}, "none/no_credential"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			c := allChecks(t, answering(test.answer, "", userHeader, "alice"), func(o *options) { o.Registerer = reg })
			assert.Equal(t, test.id, expect(t, c, request(test.headers...), test.want).Identity)
			counted := series(t, reg, "tokenvend_session_checks_total")
			assert.Len(t, counted, 3*4+1, "every series from the start")
			maps.DeleteFunc(counted, func(_ string, n float64) bool { return n == 0 })
			assert.Equal(t, map[string]float64{test.outcome: 1}, counted)
			assert.Len(t, series(t, reg, "tokenvend_session_check_duration_seconds"), 3, "every series from the start")
		})
	}
}

func TestTheErrorOfAMissingCredentialListsThoseReceived(t *testing.T) {
	t.Parallel()
	c := allChecks(t, nil, func(o *options) {
		o.SessionCheck, o.Cookie = setting.List{"jwt", "proxy"}, "session"
	})
	long := strings.Repeat("canary", 20)
	_, err := c.Authenticate(request("Cookie", "sid=canary; canary==; "+long+"=x; canary", "X-Session-Token", "canary", "User-Agent", "canary", "X-Forwarded-User", "canary"))
	require.ErrorIs(t, err, auth.ErrNoCredential)
	for _, says := range []string{"cookie sid", "header X-Session-Token", "no cookie session (JWT_COOKIE)", "TRUSTED_PROXIES", "SESSION_CHECK"} {
		assert.ErrorContains(t, err, says)
	}
	assert.NotContains(t, err.Error(), "=")
	assert.NotContains(t, err.Error(), long)
	_, err = c.Authenticate(request())
	require.ErrorContains(t, err, "none received")
}

func TestADeniedUserIsForbiddenWhicheverCheckAccepts(t *testing.T) {
	t.Parallel()
	c := allChecks(t, answering(200, "", userHeader, "alice", "Set-Cookie", "sid=2"), func(o *options) {
		o.DeniedUsersFile, o.SetCookies = denyList(t, "alice\n"), setting.List{"sid"}
	})
	for _, r := range []*http.Request{withBearer(sign(jose.HS256, hmacKey, nil, good())), request("Cookie", "sid=1")} {
		for range 2 {
			result, err := c.Authenticate(r)
			require.ErrorIs(t, err, auth.ErrForbidden)
			require.ErrorContains(t, err, "DENIED_USERS_FILE")
			assert.Equal(t, "alice", result.Name, "for the log")
			assert.Len(t, result.SetCookies, len(r.Header["Cookie"]), "the cookie is passed on, whatever the answer")
		}
	}
	expect(t, c, withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"sub": "bob"}))), nil)
}

func TestTheChainMakesOneSpanWithoutTheUser(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var inner trace.SpanContext
	c := newForward(t, answering(200, "", userHeader, "alice"), func(_ *auth.Config, d *auth.Deps) {
		d.Tracer = provider.Tracer("test")
		d.Inject = func(ctx context.Context, _ http.Header) { inner = trace.SpanContextFromContext(ctx) }
	})
	expect(t, c, request("Cookie", "session=canary"), nil)
	require.Len(t, spans.Ended(), 1)
	span := spans.Ended()[0]
	assert.Equal(t, "session check", span.Name())
	assert.Equal(t, span.SpanContext().SpanID(), inner.SpanID(), "requests of the check are within the span")
	attributes := fmt.Sprint(span.Attributes())
	assert.Contains(t, attributes, "forward")
	assert.Contains(t, attributes, "ok")
	assert.NotContains(t, attributes, "alice")
	assert.NotContains(t, attributes, "canary")
}

func TestProbableMistakesAreWarnedOf(t *testing.T) {
	t.Parallel()
	assert.Empty(t, allChecks(t, nil, nil).Warnings())
	c := allChecks(t, nil, func(o *options) {
		o.Secret, o.JWKSURL, o.Issuers, o.Audience = o.PublicKey, keysURL, nil, setting.List{"any"}
		require.NoError(t, o.TrustedProxies.Decode("::/0,10.0.0.0/8,0.0.0.0/0"))
	})
	warnings := c.Warnings()
	require.Len(t, warnings, 4)
	for n, says := range []string{"JWT_AUDIENCE=any", "JWT_JWKS_URL without JWT_ISSUER", "TRUSTED_PROXIES contains every address (::/0)", "TRUSTED_PROXIES contains every address (0.0.0.0/0)"} {
		assert.Contains(t, warnings[n], says)
	}
}
