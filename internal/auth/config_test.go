package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// everything returns a valid Config with all checks.
func everything() auth.Config {
	c := jwtConfig()
	c.SessionCheck = setting.List{"jwt", "forward", "introspection", "proxy"}
	c.Secret = static("JWT_SECRET", hmacKey)
	c.ForwardConfig = auth.ForwardConfig{
		URL: "http://backend:3000/me", UserHeader: userHeader, Timeout: time.Minute, CacheTTL: time.Minute,
		Cookies: setting.List{"__Host-sid"}, Headers: setting.List{"X-Session-Token"}, SetCookies: setting.List{"sid"}, UserField: "user.id",
	}
	c.IntrospectionConfig = introspectionConfig().IntrospectionConfig
	c.IntrospectionConfig.URL, c.InsecureHTTPHosts = "http://keycloak:8080/introspect", setting.List{"keycloak"}
	c.ProxyConfig, c.TrustedProxies = auth.ProxyConfig{UserHeader: "X-Forwarded-User"}, proxies
	return c
}

func TestAConfigurationNamesEveryFault(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*options)
		says   string
	}{
		"no check":                        {func(o *options) { o.SessionCheck = nil }, "SESSION_CHECK is required"},
		"an unknown check":                {func(o *options) { o.SessionCheck = setting.List{"jwt", "saml"} }, "SESSION_CHECK must be"},
		"a check twice":                   {func(o *options) { o.SessionCheck = setting.List{"jwt", "jwt"} }, "SESSION_CHECK must name each check once"},
		"no source of keys":               {func(o *options) { o.Secret = o.PublicKey; o.Issuers = nil }, "JWT_ISSUER is required"},
		"two sources of keys":             {func(o *options) { o.JWKSURL = keysURL }, "JWT_SECRET and JWT_JWKS_URL are both set"},
		"one key for several issuers":     {func(o *options) { o.Issuers = setting.List{"a", "b"} }, "JWT_ISSUER must be one issuer with JWT_SECRET"},
		"an issuer twice":                 {func(o *options) { o.Secret = o.PublicKey; o.Issuers = setting.List{issuer, issuer} }, "JWT_ISSUER must name each issuer once"},
		"an issuer of many tenants":       {func(o *options) { o.Issuers = setting.List{"https://login.example/{tenantid}/v2.0"} }, "list the issuers of the tenants"},
		"an issuer in plaintext":          {func(o *options) { o.Secret = o.PublicKey; o.Issuers = setting.List{"http://idp.example"} }, "JWT_ISSUER must be an https:// URL"},
		"a key set in plaintext":          {func(o *options) { o.Secret = o.PublicKey; o.JWKSURL = "http://idp.example/keys" }, "JWT_JWKS_URL must be an https:// URL"},
		"no audience":                     {func(o *options) { o.Audience = nil }, "JWT_AUDIENCE is required"},
		"audiences as JSON":               {func(o *options) { o.Audience = setting.List{`["a"`, `"b"]`} }, "JWT_AUDIENCE must be a comma-separated list without quotes"},
		"any beside an audience":          {func(o *options) { o.Audience = setting.List{"any", "a"} }, "JWT_AUDIENCE must be any, or"},
		"none as an algorithm":            {func(o *options) { o.Algorithms = setting.List{"HS256", "none"} }, "JWT_ALGORITHMS must be"},
		"RSA with a secret":               {func(o *options) { o.Algorithms = setting.List{"RS256"} }, "JWT_ALGORITHMS must be"},
		"HMAC without a secret":           {func(o *options) { o.Secret = o.PublicKey; o.Algorithms = setting.List{"HS256"} }, "JWT_ALGORITHMS must be"},
		"a public key as a secret":        {func(o *options) { o.Secret = static("JWT_SECRET", publicPEM(&rsaKey().PublicKey)) }, "JWT_SECRET must be a secret; PEM belongs in JWT_PUBLIC_KEY"},
		"a secret of 31 bytes":            {func(o *options) { o.Secret = static("JWT_SECRET", hmacKey[1:]) }, "JWT_SECRET must be a secret of at least 32 bytes"},
		"a secret of 31 bytes in base64":  {func(o *options) { o.Secret = static("JWT_SECRET_FILE", "base64:"+b64(hmacKey[1:])) }, "JWT_SECRET_FILE must be a secret of at least 32 bytes"},
		"no base64":                       {func(o *options) { o.Secret = static("JWT_SECRET", "base64:canary!") }, "JWT_SECRET must be valid base64"},
		"a secret too short for HS512":    {func(o *options) { o.Algorithms = setting.List{"HS512"} }, "JWT_SECRET must be a secret"},
		"a key that is no PEM":            {publicKey("canary"), "JWT_PUBLIC_KEY must be valid PEM"},
		"a PEM with more after it":        {publicKey(publicPEM(&rsaKey().PublicKey) + "canary"), "JWT_PUBLIC_KEY must be valid PEM"},
		"a private key":                   {publicKey(strings.ReplaceAll(publicPEM(&ecKey().PublicKey), "PUBLIC", "PRIVATE")), "JWT_PUBLIC_KEY must be valid PEM of public keys"},
		"a PEM of garbage":                {publicKey("-----BEGIN PUBLIC KEY-----\nY2FuYXJ5\n-----END PUBLIC KEY-----\n"), "JWT_PUBLIC_KEY must be valid PEM"},
		"RSA of 1,024 bits":               {publicKey(publicPEM(&weakRSA().PublicKey)), "must have 2048 to 8192 bits and has 1024"},
		"a key no listed algorithm uses":  {func(o *options) { publicKey(publicPEM(&ecKey().PublicKey))(o); o.Algorithms = setting.List{"RS256"} }, "JWT_ALGORITHMS"},
		"a cookie's name with a space":    {func(o *options) { o.Cookie = "a b" }, "JWT_COOKIE must be the name of a cookie"},
		"a header that is always read":    {func(o *options) { o.Header = "authorization" }, "JWT_HEADER must be another header"},
		"a path with an empty part":       {func(o *options) { o.SubjectClaim = "a..b" }, "JWT_SUBJECT_CLAIM must be"},
		"a leeway of an hour":             {func(o *options) { o.Leeway = time.Hour }, "JWT_LEEWAY must be from 0s to 5m0s"},
		"no FORWARD_URL":                  {func(o *options) { o.ForwardConfig.URL = "" }, "FORWARD_URL is required"},
		"a FORWARD_URL with a user":       {func(o *options) { o.ForwardConfig.URL = "https://user:canary@backend/" }, "FORWARD_URL must be"},
		"a cookie with a value":           {func(o *options) { o.Cookies = setting.List{"a", "b=canary"} }, "FORWARD_COOKIES must be"},
		"all as the name of a cookie":     {func(o *options) { o.Cookies = setting.List{"all"} }, "FORWARD_COOKIES must be left out"},
		"a wildcard of cookies":           {func(o *options) { o.Cookies = setting.List{"*"} }, "FORWARD_COOKIES must be"},
		"two cookies in one":              {func(o *options) { o.SetCookies = setting.List{"a;b"} }, "FORWARD_SET_COOKIES must be"},
		"a header with a space":           {func(o *options) { o.Headers = setting.List{"X Token"} }, "FORWARD_HEADERS must be"},
		"a header that is passed on":      {func(o *options) { o.Headers = setting.List{"authorization"} }, "FORWARD_HEADERS must be names of other headers: authorization"},
		"a header of the connection":      {func(o *options) { o.Headers = setting.List{"HOST"} }, "FORWARD_HEADERS must be names of other headers: HOST"},
		"an answer's header with a colon": {func(o *options) { o.ForwardConfig.UserHeader = "X:User" }, "FORWARD_USER_HEADER must be"},
		"a field with an empty part":      {func(o *options) { o.UserField = "user..id" }, "FORWARD_USER_FIELD must be"},
		"too long a time-out":             {func(o *options) { o.ForwardConfig.Timeout = time.Minute + 1 }, "FORWARD_TIMEOUT must be"},
		"too long a memory":               {func(o *options) { o.ForwardConfig.CacheTTL = time.Minute + 1 }, "FORWARD_CACHE_TTL must be"},
		"no INTROSPECTION_URL":            {func(o *options) { o.IntrospectionConfig.URL = "" }, "INTROSPECTION_URL is required"},
		"introspection in plaintext":      {func(o *options) { o.InsecureHTTPHosts = nil }, "INTROSPECTION_URL must be an https:// URL"},
		"no client":                       {func(o *options) { o.ClientID = "" }, "INTROSPECTION_CLIENT_ID is required"},
		"no client secret":                {func(o *options) { o.ClientSecret = secret.Source{} }, "INTROSPECTION_CLIENT_SECRET is required"},
		"an unknown authentication":       {func(o *options) { o.Auth = "jwt" }, "INTROSPECTION_AUTH must be basic or post"},
		"a subject with an empty part":    {func(o *options) { o.SubjectField = "a..b" }, "INTROSPECTION_SUBJECT_FIELD must be"},
		"no time for introspection":       {func(o *options) { o.IntrospectionConfig.Timeout = 0 }, "INTROSPECTION_TIMEOUT must be"},
		"an hour of introspection":        {func(o *options) { o.IntrospectionConfig.CacheTTL = time.Hour }, "INTROSPECTION_CACHE_TTL must be"},
		"no trusted proxies":              {func(o *options) { o.TrustedProxies = nil }, "TRUSTED_PROXIES is required"},
		"no header of the proxy":          {func(o *options) { o.ProxyConfig.UserHeader = "" }, "PROXY_USER_HEADER must be"},
		"a header with _":                 {func(o *options) { o.ProxyConfig.UserHeader = "X_Forwarded_User" }, "PROXY_USER_HEADER must be spelled with -"},
	} {
		t.Run(name, func(t *testing.T) {
			c := everything()
			require.NoError(t, c.Validate())
			row.change(optionsOf(&c, nil))
			err := c.Validate()
			require.ErrorContains(t, err, row.says)
			assert.NotContains(t, err.Error(), "canary")
			assert.NotContains(t, err.Error(), "\n", "one fault, one line")
		})
	}
}

// The package that reads a variable reports that it cannot be used.
func TestAKeyThatCannotBeReadIsNotCalledMissing(t *testing.T) {
	for _, variable := range []string{"JWT_JWKS_URL", "JWT_PUBLIC_KEY", "JWT_PUBLIC_KEY_FILE", "JWT_SECRET", "JWT_SECRET_FILE"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, "canary")
			c := jwtConfig()
			c.Issuers = nil
			require.NoError(t, c.Validate())
		})
	}
}

func TestRequestHeadersAreThoseConfiguredForSessions(t *testing.T) {
	t.Parallel()
	c := everything()
	assert.Equal(t, []string{"X-Session-Token"}, c.RequestHeaders())
	c.JWTConfig.Header = "X-Jwt"
	assert.Equal(t, []string{"X-Jwt", "X-Session-Token"}, c.RequestHeaders())
}
