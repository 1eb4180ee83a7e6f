package sethealth_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func TestConfigurationErrorsNameTheVariableAndNoValue(t *testing.T) {
	url := func(u string) func(*sethealth.Config) { return func(c *sethealth.Config) { c.URL = u } }
	for name, row := range map[string]struct {
		change   func(*sethealth.Config)
		variable string
	}{
		"no key":    {func(c *sethealth.Config) { c.Key = secret.Source{} }, "SETHEALTH_KEY"},
		"no secret": {func(c *sethealth.Config) { c.Secret = secret.Source{} }, "SETHEALTH_SECRET"},
		"the page's public key": {func(c *sethealth.Config) {
			c.Key = secret.Static("SETHEALTH_KEY_FILE", secret.New("pub_canary"))
		}, "SETHEALTH_KEY_FILE"},
		"plain http to another host":   {url("http://api.canary.example"), "SETHEALTH_URL"},
		"no URL":                       {url(""), "SETHEALTH_URL"},
		"a query":                      {url("https://example.com/?canary"), "SETHEALTH_URL"},
		"a question mark":              {url("https://canary.example.com/?"), "SETHEALTH_URL"},
		"no time-out":                  {func(c *sethealth.Config) { c.Timeout = 0 }, "SETHEALTH_TIMEOUT"},
		"a negative time-out":          {func(c *sethealth.Config) { c.AttemptTimeout = -1 }, "SETHEALTH_ATTEMPT_TIMEOUT"},
		"a negative number of retries": {func(c *sethealth.Config) { c.MaxRetries = -1 }, "SETHEALTH_MAX_RETRIES"},
		"six retries":                  {func(c *sethealth.Config) { c.MaxRetries = 6 }, "SETHEALTH_MAX_RETRIES"},
		"a lifetime below a second":    {func(c *sethealth.Config) { c.TTL = time.Millisecond }, "TOKEN_TTL"},
		"a lifetime over a day":        {func(c *sethealth.Config) { c.TTL = 24*time.Hour + 1 }, "TOKEN_TTL"},
		"an unknown user ID":           {func(c *sethealth.Config) { c.UserID = "canary" }, "TOKEN_USER_ID"},
		"valid, with a path":           {url("http://[::1]:8090/v1/"), ""},
		"valid, the minimum": {func(c *sethealth.Config) {
			c.TTL, c.MaxRetries, c.UserID = time.Second, 0, "none"
			c.Timeout, c.AttemptTimeout = 10*time.Millisecond, 10*time.Millisecond
		}, ""},
		"valid, the maximum": {func(c *sethealth.Config) {
			c.TTL, c.MaxRetries, c.UserID = 24*time.Hour, 5, "hashed"
			c.Timeout, c.AttemptTimeout = 5*time.Minute, 5*time.Minute
		}, ""},
		"valid, without a lifetime": {func(c *sethealth.Config) { c.TTL = 0 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := defaults().Config
			row.change(&c)
			problems := setting.Each(c.Validate())
			if row.variable == "" {
				require.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			assert.Equal(t, row.variable, problems[0].Variable)
			assert.NotContains(t, problems[0].Error(), "canary")
		})
	}
	assert.Len(t, setting.Each(new(sethealth.Config).Validate()), 6, "all at once")
}

func TestAKeyFileIsNotReplacedByAPublicKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, "key-1")
	c := defaults().Config
	var err error
	c.Key, err = secret.FromFile("SETHEALTH_KEY_FILE", file)
	require.NoError(t, err)
	require.NoError(t, c.Validate())
	write(t, file, "pub_canary")
	err = c.Key.Reload(t.Context())
	require.ErrorContains(t, err, "public key")
	assert.NotContains(t, err.Error(), "canary")
	assert.Equal(t, "key-1", c.Key.Get().Reveal())
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}
