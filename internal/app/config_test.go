package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/ratelimit"
	"github.com/sethealth/tokenvend/internal/setting"
)

// environment is exactly env for the rest of the test.
func environment(t *testing.T, env map[string]string) {
	t.Helper()
	for _, v := range app.Variables() {
		for _, name := range []string{v.Name, v.Name + "_FILE"} {
			t.Setenv(name, "") // so that it is restored
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
}

func least(more map[string]string) map[string]string {
	env := map[string]string{
		"SETHEALTH_KEY": "k", "SETHEALTH_SECRET": "s", "CORS_ALLOWED_ORIGINS": "none", "SESSION_CHECK": "forward", "FORWARD_URL": "http://backend:3000/me",
	}
	for name, value := range more {
		env[name] = value
	}
	return env
}

func TestTheLeastEnvironmentGetsEveryDefault(t *testing.T) {
	environment(t, least(nil))
	c, err := app.LoadConfig()
	require.NoError(t, err)
	assert.Equal(t, "https://api.set.health", c.Sethealth.URL)
	assert.Equal(t, 10*time.Second, c.Sethealth.Timeout)
	assert.Equal(t, time.Hour, c.Sethealth.TTL)
	assert.Equal(t, 15*time.Minute, c.Cache.MinLife)
	assert.Equal(t, ratelimit.Rate{N: 60, Per: time.Minute}, c.Limit.Rate)
	assert.Equal(t, ":8080", c.Server.ListenAddr)
	assert.Equal(t, "127.0.0.1:8081", c.Server.AdminAddr)
	assert.Equal(t, "X-Auth-Request-User", c.Sessions.ForwardConfig.UserHeader)
	assert.True(t, bool(c.Pages.ClientJS))
	assert.False(t, c.Sessions.JWTConfig.Secret.IsSet())
}

func TestValuesAreUnderstoodAsTheyAreWritten(t *testing.T) {
	for name, row := range map[string]struct {
		env map[string]string
		is  func(*testing.T, *app.Config)
	}{
		"items of a list are trimmed": {map[string]string{"SESSION_CHECK": " forward , proxy ", "TRUSTED_PROXIES": "10.0.0.0/8, ::1/128"}, func(t *testing.T, c *app.Config) {
			assert.Equal(t, setting.List{"forward", "proxy"}, c.Sessions.SessionCheck)
			assert.Len(t, c.Sessions.TrustedProxies, 2)
		}},
		"white space around a value is not part of it": {map[string]string{"LOG_LEVEL": " debug\n"}, func(t *testing.T, c *app.Config) { assert.Equal(t, "debug", c.Log.Level) }},
		"PORT is honoured":                  {map[string]string{"PORT": "9000"}, func(t *testing.T, c *app.Config) { assert.Equal(t, ":9000", c.Server.ListenAddr) }},
		"LISTEN_ADDR counts more than PORT": {map[string]string{"PORT": "9000", "LISTEN_ADDR": "127.0.0.1:1"}, func(t *testing.T, c *app.Config) { assert.Equal(t, "127.0.0.1:1", c.Server.ListenAddr) }},
		"no limit":                          {map[string]string{"RATE_LIMIT": "off"}, func(t *testing.T, c *app.Config) { assert.Zero(t, c.Limit.Rate) }},
		"a URL's trailing slash is left out": {map[string]string{"SETHEALTH_URL": "http://localhost:1/"}, func(t *testing.T, c *app.Config) {
			assert.Equal(t, "http://localhost:1", c.Sethealth.URL)
		}},
		"no life": {map[string]string{"TOKEN_TTL": "0"}, func(t *testing.T, c *app.Config) { assert.Zero(t, c.Sethealth.TTL) }},
		"a secret that is set but empty is not set": {map[string]string{"JWT_SECRET": ""}, func(t *testing.T, c *app.Config) { assert.False(t, c.Sessions.JWTConfig.Secret.IsSet()) }},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, least(row.env))
			c, err := app.LoadConfig()
			require.NoError(t, err)
			row.is(t, c)
		})
	}
}

func TestRulesAcrossVariables(t *testing.T) {
	jwt := func(more map[string]string) map[string]string {
		env := least(map[string]string{"SESSION_CHECK": "jwt", "JWT_AUDIENCE": "any"})
		for name, value := range more {
			env[name] = value
		}
		return env
	}
	secret := strings.Repeat("s", 32)
	for name, row := range map[string]struct {
		env      map[string]string
		variable string
	}{
		"no key":                            {jwt(nil), "JWT_ISSUER"},
		"two keys":                          {jwt(map[string]string{"JWT_SECRET": secret, "JWT_JWKS_URL": "https://idp.example.com/keys"}), "JWT_SECRET"},
		"an HMAC algorithm without secret":  {jwt(map[string]string{"JWT_ISSUER": "https://idp.example.com", "JWT_ALGORITHMS": "HS256"}), "JWT_ALGORITHMS"},
		"another algorithm for a secret":    {jwt(map[string]string{"JWT_SECRET": secret, "JWT_ALGORITHMS": "RS256"}), "JWT_ALGORITHMS"},
		"a secret too short for HS512":      {jwt(map[string]string{"JWT_SECRET": secret, "JWT_ALGORITHMS": "HS512"}), "JWT_SECRET"},
		"any beside an audience":            {jwt(map[string]string{"JWT_SECRET": secret, "JWT_AUDIENCE": "any,me"}), "JWT_AUDIENCE"},
		"a public key that is a secret":     {jwt(map[string]string{"JWT_PUBLIC_KEY": secret}), "JWT_PUBLIC_KEY"},
		"an issuer in plaintext":            {jwt(map[string]string{"JWT_ISSUER": "http://idp.example.com"}), "JWT_ISSUER"},
		"a key set in plaintext":            {jwt(map[string]string{"JWT_JWKS_URL": "http://idp.example.com/keys"}), "JWT_JWKS_URL"},
		"a check named twice":               {least(map[string]string{"SESSION_CHECK": "forward,forward"}), "SESSION_CHECK"},
		"the secret over a network":         {least(map[string]string{"SETHEALTH_URL": "http://localhost.example.com"}), "SETHEALTH_URL"},
		"a user in the URL":                 {least(map[string]string{"SETHEALTH_URL": "https://me:pw@api.set.health"}), "SETHEALTH_URL"},
		"the least life over the life":      {least(map[string]string{"TOKEN_TTL": "10m", "TOKEN_MIN_LIFE": "10m"}), "TOKEN_MIN_LIFE"},
		"a Redis URL of another kind":       {least(map[string]string{"TOKEN_CACHE": "redis", "REDIS_URL": "http://redis"}), "REDIS_URL"},
		"a proxy check that trusts nobody":  {least(map[string]string{"SESSION_CHECK": "proxy"}), "TRUSTED_PROXIES"},
		"half a TLS pair":                   {least(map[string]string{"TLS_KEY_FILE": "/k"}), "TLS_CERT_FILE"},
		"a TLS pair that is none":           {least(map[string]string{"TLS_KEY_FILE": "/k", "TLS_CERT_FILE": "/c"}), "TLS_CERT_FILE"},
		"a base path with a trailing slash": {least(map[string]string{"BASE_PATH": "/x/"}), "BASE_PATH"},
		"a base path of a slash":            {least(map[string]string{"BASE_PATH": "/"}), "BASE_PATH"},
		"an empty item among the checks":    {least(map[string]string{"SESSION_CHECK": "forward,"}), "SESSION_CHECK"},
		"two checks that there are not":     {least(map[string]string{"SESSION_CHECK": "forward,cookie,saml"}), "SESSION_CHECK"},
		"an empty item among the origins":   {least(map[string]string{"CORS_ALLOWED_ORIGINS": "https://a.example.com,"}), "CORS_ALLOWED_ORIGINS"},
		"an empty item among the audiences": {jwt(map[string]string{"JWT_SECRET": secret, "JWT_AUDIENCE": "me,"}), "JWT_AUDIENCE"},
		"a proxy that is no CIDR":           {least(map[string]string{"SESSION_CHECK": "proxy", "TRUSTED_PROXIES": "10.0.0.1"}), "TRUSTED_PROXIES"},
		"two cookies that have no name":     {least(map[string]string{"FORWARD_COOKIES": "a b,c d"}), "FORWARD_COOKIES"},
		"a rate over a million a second":    {least(map[string]string{"RATE_LIMIT": "1000000/1ms"}), "RATE_LIMIT"},
		"a least life below none":           {least(map[string]string{"TOKEN_TTL": "0", "TOKEN_MIN_LIFE": "-5s"}), "TOKEN_MIN_LIFE"},
		"no port":                           {least(map[string]string{"PORT": "0"}), "PORT"},
		"a collector that is no URL":        {least(map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}), "OTEL_EXPORTER_OTLP_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, row.env)
			_, err := app.LoadConfig()
			problems := setting.Each(err)
			require.Len(t, problems, 1, err)
			assert.Equal(t, row.variable, problems[0].Variable)
		})
	}
}

func TestWhatIsSetIsHeldToItsRulesWhileNobodyKnowsWhichChecksAreMeant(t *testing.T) {
	wrong := map[string]string{
		"JWT_SECRET": "short", "JWT_COOKIE": "a b", "FORWARD_URL": "backend:3000", "INTROSPECTION_URL": "http://idp.example.com",
		"PROXY_USER_HEADER": "X User", "TOKEN_CACHE": "disk", "REDIS_URL": "http://redis",
	}
	for _, checks := range []string{"", "jwt,", "saml"} {
		environment(t, least(wrong))
		t.Setenv("SESSION_CHECK", checks)
		_, err := app.LoadConfig()
		named := []string{}
		for _, p := range setting.Each(err) {
			named = append(named, p.Variable)
		}
		assert.ElementsMatch(t, []string{
			"SESSION_CHECK", "JWT_SECRET", "JWT_COOKIE", "FORWARD_URL", "INTROSPECTION_URL",
			"PROXY_USER_HEADER", "TOKEN_CACHE", "REDIS_URL",
		}, named, checks)
	}
	environment(t, least(map[string]string{"JWT_SECRET": "short", "REDIS_URL": "http://redis"}))
	_, err := app.LoadConfig()
	assert.NoError(t, err, "what is not used may be another program's")
}

func TestAFileVariableHoldsTheValueAndBothAreTooMany(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(file, []byte("from the file\n"), 0o600))
	env := least(map[string]string{"SETHEALTH_KEY_FILE": file})
	delete(env, "SETHEALTH_KEY")
	environment(t, env)
	c, err := app.LoadConfig()
	require.NoError(t, err)
	assert.Equal(t, "from the file", c.Sethealth.Key.Get().Reveal())

	environment(t, least(map[string]string{"SETHEALTH_KEY_FILE": file}))
	_, err = app.LoadConfig()
	problems := setting.Each(err)
	require.Len(t, problems, 1)
	assert.Equal(t, "SETHEALTH_KEY", problems[0].Variable)

	env["SETHEALTH_KEY_FILE"] = file + "-that-is-not-there"
	environment(t, env)
	_, err = app.LoadConfig()
	problems = setting.Each(err)
	require.Len(t, problems, 1)
	assert.Equal(t, "SETHEALTH_KEY_FILE", problems[0].Variable)
}

func TestValuesThatCannotBeMeantAreNamedAndNotShown(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, fmt.Sprint(len(content), content[:min(len(content), 1)] == "\n"))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for name, row := range map[string]struct{ variable, value, fault string }{
		"quotes around an address":          {"FORWARD_URL", `"http://canary"`, "FORWARD_URL is in quotes"},
		"quotes around a secret":            {"SETHEALTH_SECRET", `'canary'`, "SETHEALTH_SECRET is in quotes"},
		"a newline after a secret":          {"SETHEALTH_SECRET", "canary\n", "SETHEALTH_SECRET must not begin or end with white space"},
		"a space before a secret":           {"SETHEALTH_SECRET", " canary", "SETHEALTH_SECRET must not begin or end with white space"},
		"a byte order mark":                 {"SETHEALTH_KEY", "\ufeffcanary", "SETHEALTH_KEY begins with a byte order mark"},
		"the page's public key":             {"SETHEALTH_KEY", "pub_canary", "SETHEALTH_KEY must be"},
		"a control character":               {"FORWARD_COOKIES", "can\x01ary", "FORWARD_COOKIES holds control characters"},
		"a number without a unit":           {"SETHEALTH_TIMEOUT", "5000", "SETHEALTH_TIMEOUT must be a duration"},
		"a proxy that is no URL":            {"HTTPS_PROXY", "http://can ary:1", "HTTPS_PROXY must be the URL"},
		"a second newline in a file":        {"SETHEALTH_SECRET_FILE", file("canary\n\n"), "SETHEALTH_SECRET_FILE must name a file that can be used: the file ends with more than one newline"},
		"a blank first line in a file":      {"SETHEALTH_SECRET_FILE", file("\ncanary\n"), "SETHEALTH_SECRET_FILE must name a file that can be used: the file begins with a blank line"},
		"a UTF-16 file":                     {"SETHEALTH_SECRET_FILE", file("\xff\xfec\x00"), "SETHEALTH_SECRET_FILE must name a file that can be used: the file begins with a byte order mark"},
		"a file that is not there":          {"SETHEALTH_SECRET_FILE", dir + "/canary", "SETHEALTH_SECRET_FILE must name a file that can be used: no such file"},
		"an IPv4 range written as IPv6":     {"TRUSTED_PROXIES", "::ffff:10.0.0.0/104", "TRUSTED_PROXIES must be a comma-separated list of CIDRs"},
		"a word for the size of the cache":  {"TOKEN_CACHE_SIZE", "canary", "TOKEN_CACHE_SIZE must be a whole number"},
		"a list of users that is not there": {"DENIED_USERS_FILE", dir + "/canary", "DENIED_USERS_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			env := least(map[string]string{row.variable: row.value})
			if row.variable == "SETHEALTH_SECRET_FILE" {
				delete(env, "SETHEALTH_SECRET")
			}
			environment(t, env)
			_, err := app.LoadConfig()
			require.Len(t, setting.Each(err), 1, err)
			require.ErrorContains(t, err, row.fault)
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestMisspeltVariablesAreFound(t *testing.T) {
	assert.Equal(t, []string{
		"JWT_REQUIRED_CLAIM is not a variable of tokenvend; JWT_REQUIRED_CLAIMS was probably meant",
		"SETHEALTH_SECRT_FILE is not a variable of tokenvend; SETHEALTH_SECRET_FILE was probably meant",
		"REDIS_URI is not a variable of tokenvend; REDIS_URL was probably meant",
	}, app.Misspelt([]string{
		"JWT_REQUIRED_CLAIM=canary", "SETHEALTH_SECRT_FILE=canary", "REDIS_URI=redis://canary", "JWT_ISSUER=right", "REDIS_PORT=tcp://10.0.0.1:6379",
		"REDIS_URX=tcp://10.0.0.1:6379", "JWT_COOKI=", "PORTS=1", "HOSTNAME=canary", "HOME=/", "LANG=C", "SHUTDOWN_TIMEOUT=20s", "TLS_CERT_FILE=right",
	}))
}
