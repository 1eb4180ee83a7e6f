package app_test

import (
	"maps"
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

type env = map[string]string

// environment is, for the rest of the test, the least that the program accepts and more; "-" takes one away.
func environment(t *testing.T, more env) {
	t.Helper()
	for _, v := range app.Variables() {
		for _, name := range v.Names() {
			t.Setenv(name, "") // so that it is restored
			require.NoError(t, os.Unsetenv(name))
		}
	}
	all := env{
		"SETHEALTH_KEY": "k", "SETHEALTH_SECRET": "s", "CORS_ALLOWED_ORIGINS": "none",
		"SESSION_CHECK": "forward", "FORWARD_URL": "http://backend:3000/me",
	}
	maps.Copy(all, more)
	for name, value := range all {
		if value != "-" {
			t.Setenv(name, value)
		}
	}
}

// wrong lists the faults of an environment.
func wrong(t *testing.T, more env) []*setting.Problem {
	t.Helper()
	environment(t, more)
	_, err := app.LoadConfig()
	return setting.Each(err)
}

func TestAMinimalEnvironmentGetsTheDefaults(t *testing.T) {
	environment(t, nil)
	c, err := app.LoadConfig()
	require.NoError(t, err)
	assert.Equal(t, "https://api.set.health", c.Sethealth.URL)
	assert.Equal(t, time.Hour, c.Sethealth.TTL)
	assert.Equal(t, 15*time.Minute, c.Cache.MinLife, "a quarter of TOKEN_TTL")
	assert.Equal(t, ratelimit.Rate{N: 60, Per: time.Minute}, c.Limit.Rate)
	assert.Equal(t, ":8080", c.Server.ListenAddr)
	assert.True(t, bool(c.Pages.ClientJS))
	assert.False(t, c.Sessions.JWTConfig.Secret.IsSet())
}

func TestValuesAreParsed(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("from the file\n"), 0o600))
	for name, row := range map[string]struct {
		env  env
		want any
		got  func(*app.Config) any
	}{
		"items of a list are trimmed":                  {env{"SESSION_CHECK": " forward , jwt ", "JWT_ISSUER": "https://id.example.com", "JWT_AUDIENCE": "me"}, setting.List{"forward", "jwt"}, func(c *app.Config) any { return c.Sessions.SessionCheck }},
		"white space around a value is not part of it": {env{"LOG_LEVEL": " debug\n"}, "debug", func(c *app.Config) any { return c.Log.Level }},
		"hosts have no case, and may be addresses":     {env{"INSECURE_HTTP_HOSTS": "fd00::12, Intranet", "CORS_ALLOWED_ORIGINS": "http://intranet,http://[fd00::12]:8080"}, setting.List{"fd00::12", "intranet"}, func(c *app.Config) any { return c.Sessions.InsecureHTTPHosts }},
		"PORT is honoured":                             {env{"PORT": "9000"}, ":9000", func(c *app.Config) any { return c.Server.ListenAddr }},
		"LISTEN_ADDR counts more than PORT":            {env{"PORT": "9000", "LISTEN_ADDR": "127.0.0.1:1"}, "127.0.0.1:1", func(c *app.Config) any { return c.Server.ListenAddr }},
		"a URL's trailing slash is left out":           {env{"SETHEALTH_URL": "http://localhost:1/"}, "http://localhost:1", func(c *app.Config) any { return c.Sethealth.URL }},
		"no lifetime":                                  {env{"TOKEN_TTL": "0"}, time.Duration(0), func(c *app.Config) any { return c.Sethealth.TTL }},
		"set but empty is not set":                     {env{"JWT_SECRET": "", "TOKEN_TTL": " "}, time.Hour, func(c *app.Config) any { return c.Sethealth.TTL }},
		"a file holds the value":                       {env{"SETHEALTH_KEY": "-", "SETHEALTH_KEY_FILE": key}, "from the file", func(c *app.Config) any { return c.Sethealth.Key.Get().Reveal() }},
		"a faulty value of a check that is not used":   {env{"JWT_SECRET": "short", "REDIS_URL": "http://redis"}, "memory", func(c *app.Config) any { return c.Cache.Cache }},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, row.env)
			c, err := app.LoadConfig()
			require.NoError(t, err)
			assert.Equal(t, row.want, row.got(c))
		})
	}
}

func TestAFaultIsOneLineThatNamesItsVariableAndShowsNoValue(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	for _, row := range []struct {
		env   env
		fault string // how the line begins
	}{
		{env{"FORWARD_URL": `"http://canary"`}, "FORWARD_URL is in quotes"},
		{env{"FORWARD_COOKIES": "can\x01ary"}, "FORWARD_COOKIES holds control characters"},
		{env{"SETHEALTH_SECRET": "canary\n"}, "SETHEALTH_SECRET must not begin or end with white space"},
		{env{"SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": file("lines", "canary\n\n")}, "SETHEALTH_SECRET_FILE must name a file that can be used: the file ends with more than one newline"},
		{env{"SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": dir + "/canary"}, "SETHEALTH_SECRET_FILE must name a file that can be used: no such file"},
		{env{"SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": `"/canary"`}, "SETHEALTH_SECRET_FILE must name a file that can be used: its name is in quotes"},
		{env{"INSECURE_HTTP_HOSTS": "http://canary"}, "INSECURE_HTTP_HOSTS must be names or addresses of hosts"},
		{env{"CORS_ALLOWED_HEADERS": "*"}, "CORS_ALLOWED_HEADERS must be names of headers"},
		{env{"SETHEALTH_SECRET_FILE": file("one", "canary\n")}, "SETHEALTH_SECRET and SETHEALTH_SECRET_FILE are both set"},
		{env{"SETHEALTH_TIMEOUT": "5000"}, "SETHEALTH_TIMEOUT must be a duration"},
		{env{"TOKEN_CACHE_SIZE": "canary"}, "TOKEN_CACHE_SIZE must be a whole number"},
		{env{"SETHEALTH_TEST_MODE": "canary"}, "SETHEALTH_TEST_MODE must be true or false"},
		{env{"TRUSTED_PROXIES": "::ffff:10.0.0.0/104"}, "TRUSTED_PROXIES must be a comma-separated list of CIDRs"},
		{env{"HTTPS_PROXY": "http://can ary:1"}, "HTTPS_PROXY must be the URL"},
		{env{"HTTPS_PROXY": "http:/canary:3128"}, "HTTPS_PROXY must be the URL"},
		{env{"HTTPS_PROXY": "canary"}, "HTTPS_PROXY must be the URL"},
		{env{"HTTPS_PROXY": "3128"}, "HTTPS_PROXY must be the URL"},
		{env{"https_proxy": "http://canary:99999"}, "https_proxy must be the URL"},
		{env{"HTTPS_PROXY": "ftp://canary:1"}, "HTTPS_PROXY must be the URL"},
		{env{"OTEL_EXPORTER_OTLP_ENDPOINT": "canary:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be"},
		{env{"DENIED_USERS_FILE": dir + "/canary"}, "DENIED_USERS_FILE "},
		{env{"PORT": "0"}, "PORT must be a port"},
		{env{"BASE_PATH": "/x/"}, "BASE_PATH "},
		{env{"BASE_PATH": "/"}, "BASE_PATH "},
		{env{"CORS_ALLOWED_ORIGINS": "https://a.example.com,"}, "CORS_ALLOWED_ORIGINS must be a comma-separated list without empty items"},
	} {
		problems := wrong(t, row.env)
		for name := range row.env {
			require.NoError(t, os.Unsetenv(name)) // those that are not ours
		}
		if assert.Len(t, problems, 1, "%s: %v", row.fault, problems) {
			assert.True(t, strings.HasPrefix(problems[0].Error(), row.fault), "%s: %s", row.fault, problems[0])
			assert.NotContains(t, problems[0].Error(), "canary")
		}
	}
}

func TestEachWrongFileOfATLSPairIsNamed(t *testing.T) {
	dir := t.TempDir()
	chain, key := pairOfFiles(t)
	other := filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("-----BEGIN CANARY-----\nMA==\n-----END CANARY-----\n"), 0o600))
	const noFile = " must name a file that can be used: no such file or directory"
	const noChain = "TLS_CERT_FILE must name a PEM certificate chain"
	const noKey = "TLS_KEY_FILE must name the PEM key of the certificate in TLS_CERT_FILE, without a password"
	_, keyOfAnother := pairOfFiles(t)
	for name, row := range map[string]struct {
		chain, key string
		faults     []string
	}{
		"both missing":            {"/canary", "/canary", []string{"TLS_CERT_FILE" + noFile, "TLS_KEY_FILE" + noFile}},
		"the chain missing":       {"/canary", key, []string{"TLS_CERT_FILE" + noFile}},
		"the key missing":         {chain, "/canary", []string{"TLS_KEY_FILE" + noFile}},
		"only a missing chain":    {"/canary", "-", []string{"TLS_KEY_FILE is required (the key of TLS_CERT_FILE)", "TLS_CERT_FILE" + noFile}},
		"only a missing key":      {"-", "/canary", []string{"TLS_CERT_FILE is required (the certificate of TLS_KEY_FILE)", "TLS_KEY_FILE" + noFile}},
		"other PEM":               {other, other, []string{noChain, noKey}},
		"the two in wrong places": {key, chain, []string{noChain, noKey}},
		"another key":             {chain, keyOfAnother, []string{noKey}},
	} {
		var faults []string
		for _, problem := range wrong(t, env{"TLS_CERT_FILE": row.chain, "TLS_KEY_FILE": row.key}) {
			faults = append(faults, problem.Error())
		}
		assert.ElementsMatch(t, row.faults, faults, name)
	}
	assert.Empty(t, wrong(t, env{"TLS_CERT_FILE": chain, "TLS_KEY_FILE": key}))
}

func TestAProxyURLIsAcceptedIfNetHTTPAcceptsIt(t *testing.T) {
	for _, proxy := range []string{"proxy:3128", "proxy.example.com", "user:pass@proxy.example.com:3128", "http://proxy", "https://user@[::1]:8443/", "socks5://10.0.0.1:1080"} {
		assert.Empty(t, wrong(t, env{"HTTPS_PROXY": proxy}), proxy)
	}
}

func TestVariablesOfEveryCheckAreValidatedIfSessionCheckIsWrong(t *testing.T) {
	for _, checks := range []string{"", "jwt,", "saml"} {
		var named []string
		for _, p := range wrong(t, env{
			"SESSION_CHECK": checks, "JWT_SECRET": "short", "JWT_COOKIE": "a b", "FORWARD_URL": "backend:3000",
			"INTROSPECTION_URL": "http://idp.example.com", "PROXY_USER_HEADER": "X User", "TOKEN_CACHE": "disk", "REDIS_URL": "http://redis",
		}) {
			named = append(named, p.Variable)
		}
		assert.ElementsMatch(t, []string{
			"SESSION_CHECK", "JWT_SECRET", "JWT_COOKIE", "FORWARD_URL", "INTROSPECTION_URL", "PROXY_USER_HEADER", "TOKEN_CACHE", "REDIS_URL",
		}, named, checks)
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
