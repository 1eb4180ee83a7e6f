package api_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/api"
)

func TestOriginsContainExactlyWhatIsListedAndNothingNearIt(t *testing.T) {
	origins, err := api.ParseOrigins([]string{"https://app.example.com", "https://app.example.com:8443", "https://*.example.org", "http://localhost:3000", "http://[::1]:3000", "http://intranet:8000", "capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://-", "chrome-extension://abcdefghijklmnop", "moz-extension://0a1b-2c"}, []string{"intranet"})
	require.NoError(t, err)
	for origin, want := range map[string]bool{
		"https://app.example.com":             true,
		"https://app.example.com:8443":        true,
		"https://one.example.org":             true,
		"https://a-z_09.example.org":          true,
		"http://localhost:3000":               true,
		"http://[::1]:3000":                   true,
		"http://intranet:8000":                true,
		"capacitor://localhost":               true,
		"ionic://localhost":                   true,
		"tauri://localhost":                   true,
		"app://-":                             true,
		"chrome-extension://abcdefghijklmnop": true,
		"moz-extension://0a1b-2c":             true,
		"http://intranet":                     false,
		"https://intranet:8000":               false,
		"capacitor://localhost:1":             false,
		"chrome-extension://abcdefghijklmno":  false,
		"file://":                             false,
		"":                                    false,
		"null":                                false,
		"*":                                   false,
		"http://app.example.com":              false,
		"https://APP.example.com":             false,
		"HTTPS://app.example.com":             false,
		"https://app.example.com/":            false,
		"https://app.example.com.":            false,
		"https://app.example.com:443":         false,
		"https://app.example.com:8444":        false,
		"https://app.example.com.evil.com":    false,
		"https://evilapp.example.com":         false,
		"https://app.example.com@evil.com":    false,
		"https://evil.com@app.example.com":    false,
		"https://app.example.co":              false,
		"https://app-example.com":             false,
		"https://app.example.com evil.com":    false,
		"https://app.example.com,null":        false,
		"https://example.org":                 false,
		"https://.example.org":                false,
		"https://a.b.example.org":             false,
		"https://evilexample.org":             false,
		"https://one.example.org:8443":        false,
		"https://one.example.org.evil.com":    false,
		"https://evil.com/.example.org":       false,
		"https://evil.com#.example.org":       false,
		"https://evil.com?.example.org":       false,
		"https://evil.com:80.example.org":     false,
		"https://evil@x.example.org":          false,
		"https://ONE.example.org":             false,
		"http://one.example.org":              false,
		"http://localhost":                    false,
		"http://localhost:3001":               false,
		"https://localhost:3000":              false,
	} {
		assert.Equal(t, want, origins.Contains(origin), "origin %q", origin)
	}
}

func TestParseOriginsRefusesWhatNoBrowserSendsOrNobodyShouldList(t *testing.T) {
	for name, items := range map[string][]string{
		"everything":                      {"*"},
		"the null origin":                 {"null"},
		"a file":                          {"file://"},
		"any extension":                   {"chrome-extension://*"},
		"a native shell with a path":      {"capacitor://localhost/"},
		"plain http below a listed host":  {"http://a.intranet"},
		"plain http, any host below one":  {"http://*.corp.intranet"},
		"none beside another":             {"none", "https://a.example.com"},
		"a path":                          {"https://a.example.com/app"},
		"a trailing slash":                {"https://a.example.com/"},
		"an upper-case host":              {"https://A.example.com"},
		"an upper-case scheme":            {"HTTPS://a.example.com"},
		"plain http":                      {"http://a.example.com"},
		"another scheme":                  {"ftp://a.example.com"},
		"no scheme":                       {"a.example.com"},
		"no host":                         {"https://"},
		"a user":                          {"https://me@a.example.com"},
		"a query":                         {"https://a.example.com?x"},
		"a fragment":                      {"https://a.example.com#x"},
		"the default https port":          {"https://a.example.com:443"},
		"the default http port":           {"http://localhost:80"},
		"an empty port":                   {"https://a.example.com:"},
		"a port that is none":             {"https://a.example.com:https"},
		"a port over 65535":               {"https://a.example.com:65536"},
		"port 0":                          {"https://a.example.com:0"},
		"a port with a leading zero":      {"https://a.example.com:08443"},
		"a wildcard inside a label":       {"https://a*.example.com"},
		"a wildcard without a dot":        {"https://*example.com"},
		"a wildcard further right":        {"https://a.*.example.com"},
		"two wildcards":                   {"https://*.*.example.com"},
		"a wildcard over a whole TLD":     {"https://*.com"},
		"a wildcard port":                 {"https://a.example.com:*"},
		"IPv6 that is not shortened":      {"https://[0:0:0:0:0:0:0:1]"},
		"a name that is not ASCII":        {"https://bücher.example"},
		"white space":                     {"https://a.example.com b"},
		"a good one before a bad one":     {"https://a.example.com", "x"},
		"a host that only looks loopback": {"http://127.0.0.1.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := api.ParseOrigins(items, []string{"intranet", "corp.intranet"})
			assert.Error(t, err)
		})
	}
}

func TestParseOriginsTakesNoneAsAnEmptyList(t *testing.T) {
	origins, err := api.ParseOrigins([]string{"none"}, nil)
	require.NoError(t, err)
	assert.False(t, origins.Contains("https://a.example.com"))
	assert.False(t, origins.Contains("none"))
	assert.False(t, origins.Contains(""))
}

func TestEveryBadOriginIsNamedByItsPositionAndNotShown(t *testing.T) {
	_, err := api.ParseOrigins([]string{"https://a.example.com", "https://canary.example.com/", "*", "http://canary.example.com"}, nil)
	for _, place := range []string{"item 2 must", "item 3 must", "item 4 must"} {
		require.ErrorContains(t, err, place)
	}
	assert.NotContains(t, err.Error(), "canary")
}
