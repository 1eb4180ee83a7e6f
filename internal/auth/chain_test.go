package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

// allChecks is a chain of jwt, forward and proxy whose backend answers so.
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

func TestTheFirstCheckWhoseCredentialIsThereDecides(t *testing.T) {
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
		{"jwt rejects, whatever else is there", 0, []string{"Authorization", "Bearer x", "Cookie", "a=1"}, auth.ErrUnauthenticated, auth.Identity{Check: "jwt"}, "jwt/unauthenticated"},
		{"forward accepts", 200, []string{"Cookie", "a=1"}, nil, auth.Identity{Check: "forward", Name: "alice"}, "forward/ok"},
		{"forward forbids", 403, []string{"Cookie", "a=1"}, auth.ErrForbidden, auth.Identity{Check: "forward", Name: "alice"}, "forward/forbidden"},
		{"forward cannot be asked", 500, []string{"Cookie", "a=1"}, auth.ErrUnavailable, auth.Identity{Check: "forward"}, "forward/unavailable"},
		{"no credential, so no check", 0, nil, auth.ErrNoCredential, auth.Identity{}, "none/no_credential"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			c := allChecks(t, answering(test.answer, "", userHeader, "alice"), func(o *options) { o.Registerer = reg })
			result, err := c.Authenticate(request(test.headers...))
			require.ErrorIs(t, err, test.want)
			if test.want != nil && result.Name == "" {
				test.id.Name = ""
			}
			assert.Equal(t, test.id, result.Identity)
			assert.Equal(t, map[string]float64{test.outcome: 1}, counted(t, reg))
			n, err := testutil.GatherAndCount(reg, "tokenvend_session_check_duration_seconds")
			require.NoError(t, err)
			assert.Equal(t, 3, n, "a series for each check from the start")
		})
	}
}

func TestAMissingCredentialNamesThoseThatCame(t *testing.T) {
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
	require.ErrorContains(t, err, "none came")
}

func TestADeniedUserIsForbiddenWhicheverCheckAccepts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(path, []byte("# left\nalice\n"), 0o600))
	c := allChecks(t, answering(200, "", userHeader, "alice", "Set-Cookie", "sid=2"), func(o *options) {
		o.DeniedUsersFile, o.SetCookies = path, setting.List{"sid"}
	})
	for _, r := range []*http.Request{withBearer(sign(jose.HS256, hmacKey, nil, good())), request("Cookie", "sid=1")} {
		for range 2 {
			result, err := c.Authenticate(r)
			require.ErrorIs(t, err, auth.ErrForbidden)
			require.ErrorContains(t, err, "DENIED_USERS_FILE")
			assert.Equal(t, "alice", result.Name, "for the log")
			assert.Len(t, result.SetCookies, len(r.Header["Cookie"]), "the cookie is set whatever the answer is")
		}
	}
	_, err := c.Authenticate(withBearer(sign(jose.HS256, hmacKey, nil, good(claims{"sub": "bob"}))))
	require.NoError(t, err)
}

// counted is the session checks that were counted, by "check/outcome".
func counted(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	families, err := reg.Gather()
	require.NoError(t, err)
	got := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "tokenvend_session_checks_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			if v := m.GetCounter().GetValue(); v != 0 {
				got[strings.Join(labels, "/")] = v
			}
		}
	}
	return got
}

func TestTheChainMakesOneSpanThatNamesNobody(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	var inner trace.SpanContext
	c := newForward(t, answering(200, "", userHeader, "alice"), func(_ *auth.Config, d *auth.Deps) {
		d.Tracer = provider.Tracer("test")
		d.Inject = func(ctx context.Context, _ http.Header) { inner = trace.SpanContextFromContext(ctx) }
	})
	_, err := c.Authenticate(request("Cookie", "session=canary"))
	require.NoError(t, err)
	require.Len(t, spans.Ended(), 1)
	span := spans.Ended()[0]
	assert.Equal(t, "session check", span.Name())
	assert.Equal(t, span.SpanContext().SpanID(), inner.SpanID(), "what a check asks is within the span")
	attributes := fmt.Sprint(span.Attributes())
	assert.Contains(t, attributes, "forward")
	assert.Contains(t, attributes, "ok")
	assert.NotContains(t, attributes, "alice")
	assert.NotContains(t, attributes, "canary")
}

func TestWhatIsProbablyNotMeantIsWarnedOf(t *testing.T) {
	t.Parallel()
	assert.Empty(t, allChecks(t, nil, nil).Warnings())
	c := allChecks(t, nil, func(o *options) {
		o.Secret, o.JWKSURL, o.Issuers, o.Audience = o.PublicKey, keysURL, nil, setting.List{"any"}
		require.NoError(t, o.TrustedProxies.Decode("::/0,10.0.0.0/8,0.0.0.0/0"))
	})
	warnings := c.Warnings()
	require.Len(t, warnings, 4)
	for n, says := range []string{"JWT_AUDIENCE=any", "JWT_JWKS_URL without JWT_ISSUER", "TRUSTED_PROXIES holds everybody (::/0)", "TRUSTED_PROXIES holds everybody (0.0.0.0/0)"} {
		assert.Contains(t, warnings[n], says)
	}
}

func TestAConfigurationNamesEveryFault(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*options)
		says   string
	}{
		"no check":                          {func(o *options) { o.SessionCheck = nil }, "SESSION_CHECK is required"},
		"an unknown check":                  {func(o *options) { o.SessionCheck = setting.List{"jwt", "saml"} }, "SESSION_CHECK must be"},
		"a check twice":                     {func(o *options) { o.SessionCheck = setting.List{"jwt", "jwt"} }, "SESSION_CHECK must name each check once"},
		"a list of denied users not there":  {func(o *options) { o.DeniedUsersFile = "/nowhere/canary" }, "DENIED_USERS_FILE must name a list of users that can be read: no such file or directory"},
		"no source of keys":                 {func(o *options) { o.Secret = o.PublicKey; o.Issuers = nil }, "JWT_ISSUER is required"},
		"two sources of keys":               {func(o *options) { o.JWKSURL = keysURL }, "JWT_SECRET and JWT_JWKS_URL are both set"},
		"one key for several issuers":       {func(o *options) { o.Issuers = setting.List{"a", "b"} }, "JWT_ISSUER must be one issuer with JWT_SECRET"},
		"an issuer twice":                   {func(o *options) { o.Secret = o.PublicKey; o.Issuers = setting.List{issuer, issuer} }, "JWT_ISSUER must name each issuer once"},
		"an issuer of many tenants":         {func(o *options) { o.Issuers = setting.List{"https://login.example/{tenantid}/v2.0"} }, "list the issuers of the tenants"},
		"an issuer in plaintext":            {func(o *options) { o.Secret = o.PublicKey; o.Issuers = setting.List{"http://idp.example"} }, "JWT_ISSUER must be an https:// URL"},
		"a key set in plaintext":            {func(o *options) { o.Secret = o.PublicKey; o.JWKSURL = "http://idp.example/keys" }, "JWT_JWKS_URL must be an https:// URL"},
		"no audience":                       {func(o *options) { o.Audience = nil }, "JWT_AUDIENCE is required"},
		"any beside an audience":            {func(o *options) { o.Audience = setting.List{"any", "a"} }, "JWT_AUDIENCE must be any, or"},
		"none as an algorithm":              {func(o *options) { o.Algorithms = setting.List{"HS256", "none"} }, "JWT_ALGORITHMS must be"},
		"RSA with a secret":                 {func(o *options) { o.Algorithms = setting.List{"RS256"} }, "JWT_ALGORITHMS must be"},
		"HMAC without a secret":             {func(o *options) { o.Secret = o.PublicKey; o.Algorithms = setting.List{"HS256"} }, "JWT_ALGORITHMS must be"},
		"a secret of 31 bytes":              {func(o *options) { o.Secret = static("JWT_SECRET", hmacKey[1:]) }, "JWT_SECRET must be a secret of at least 32 bytes"},
		"a secret of 31 bytes in base64":    {func(o *options) { o.Secret = static("JWT_SECRET_FILE", "base64:"+b64(hmacKey[1:])) }, "JWT_SECRET_FILE must be a secret of at least 32 bytes"},
		"no base64":                         {func(o *options) { o.Secret = static("JWT_SECRET", "base64:canary!") }, "JWT_SECRET must be valid base64"},
		"a secret too short for HS512":      {func(o *options) { o.Algorithms = setting.List{"HS512"} }, "JWT_SECRET must be a secret"},
		"a key that is no PEM":              {publicKey("canary"), "JWT_PUBLIC_KEY must be PEM"},
		"a PEM with more after it":          {publicKey(publicPEM(&rsaKey().PublicKey) + "canary"), "JWT_PUBLIC_KEY must be PEM"},
		"a private key":                     {publicKey(privatePEM(ecKey())), "JWT_PUBLIC_KEY must be PEM of public keys"},
		"a PEM of garbage":                  {publicKey("-----BEGIN PUBLIC KEY-----\nY2FuYXJ5\n-----END PUBLIC KEY-----\n"), "JWT_PUBLIC_KEY must be PEM"},
		"RSA of 1,024 bits":                 {publicKey(publicPEM(&weakRSA().PublicKey)), "must have 2048 to 8192 bits and has 1024"},
		"a curve without an algorithm":      {publicKey(publicPEM(&p224Key().PublicKey)), "JWT_PUBLIC_KEY must be a public key that can be used"},
		"a key no listed algorithm uses":    {func(o *options) { publicKey(publicPEM(&ecKey().PublicKey))(o); o.Algorithms = setting.List{"RS256"} }, "JWT_ALGORITHMS"},
		"a cookie without a name":           {func(o *options) { o.Cookie = "a b" }, "JWT_COOKIE must be the name of a cookie"},
		"a header that is looked at anyway": {func(o *options) { o.Header = "authorization" }, "JWT_HEADER must be another header"},
		"a path with a hole":                {func(o *options) { o.SubjectClaim = "a..b" }, "JWT_SUBJECT_CLAIM must be"},
		"a leeway of an hour":               {func(o *options) { o.Leeway = time.Hour }, "JWT_LEEWAY must be from 0s to 5m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			c := jwtConfig()
			c.Secret = static("JWT_SECRET", hmacKey)
			row.change(optionsOf(&c, nil))
			err := c.Validate()
			require.ErrorContains(t, err, row.says)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "\n", "one fault, one line")
		})
	}
	c := jwtConfig()
	c.SessionCheck = setting.List{"saml"}
	_, err := auth.New(c, auth.Deps{Registerer: prometheus.NewRegistry()})
	require.ErrorContains(t, err, "SESSION_CHECK", "never a fall-through")
}
