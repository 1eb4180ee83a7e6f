package auth_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// denyList writes a file and returns its path.
func denyList(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// proxyDenying configures the check proxy with a list of denied users.
func proxyDenying(path string) auth.Config {
	return auth.Config{
		SessionCheck: setting.List{"proxy"}, TrustedProxies: proxies, DeniedUsersFile: path,
		ProxyConfig: auth.ProxyConfig{UserHeader: "X-Forwarded-User"},
	}
}

func denies(c *auth.Chain, name string) bool {
	r := request("X-Forwarded-User", name)
	r.RemoteAddr = "10.0.0.1:9"
	_, err := c.Authenticate(r)
	return errors.Is(err, auth.ErrForbidden)
}

func TestEachLineOfTheListDeniesAUser(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, content string
		denied        []string
		not           []string
	}{
		{"an empty file denies nobody", "", nil, []string{"alice"}},
		{"comments and blank lines deny nobody", "# alice\n\n \t\n#bob\r\n", nil, []string{"alice", "bob", "# alice"}},
		{"one name without a newline", "alice", []string{"alice"}, []string{"Alice", "alic", "alicea"}},
		{"several, from Windows", "alice\r\nbob\r\n", []string{"alice", "bob"}, []string{"carol"}},
		{"blanks around a name", "  alice \t\n", []string{"alice", "  alice"}, []string{"ali ce"}},
		{"blanks within a name", "Alice Liddell\n", []string{"Alice Liddell"}, []string{"Alice", "Liddell"}},
		{"a # anywhere else is part of the name", "al#ice\n #bob\ncarol # left\n", []string{"al#ice", "#bob", "carol # left"}, []string{"al", "bob", "carol"}},
		{"names beyond ASCII, and commas", "Jürgen\nCN=a,OU=b\n42\n", []string{"Jürgen", "CN=a,OU=b", "42"}, []string{"CN=a", "4"}},
	} {
		c := build(t, proxyDenying(denyList(t, test.content)), nil, nil)
		for _, name := range test.denied {
			assert.True(t, denies(c, name), "%s: %q", test.name, name)
		}
		for _, name := range test.not {
			assert.False(t, denies(c, name), "%s: %q", test.name, name)
		}
	}
}

func TestAnInvalidListOfDeniedUsersIsRefused(t *testing.T) {
	t.Parallel()
	for content, says := range map[string]string{
		"\ufeffalice\n":                        "line 1 begins with a byte order mark",
		"bob\ncanary\rcarol\n":                 "line 2 holds control characters",
		"bob\n\"canary\"\n":                    "line 2 is in quotes",
		"# x\n" + strings.Repeat("canary", 43): "line 2 is not the name of a user",
	} {
		c := proxyDenying(denyList(t, content))
		err := c.Validate()
		require.ErrorContains(t, err, "DENIED_USERS_FILE must name a list of users that can be read: ", "%q", content)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "canary")
	}
	c := proxyDenying("/nowhere/canary")
	require.EqualError(t, c.Validate(), "DENIED_USERS_FILE must name a list of users that can be read: no such file or directory")
}

func TestANewListIsUsedWithinTenSecondsAndAnInvalidOneIsNot(t *testing.T) {
	t.Parallel()
	path := denyList(t, "alice\n")
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		var config *auth.Config
		c := build(t, proxyDenying(path), nil, func(c *auth.Config, d *auth.Deps) {
			config = c
			d.Denied = func(denied func(string) bool) {
				assert.False(t, denied("alice"))
				changes++
			}
		})
		ctx, stop := context.WithCancel(t.Context())
		go secret.NewWatcher(quiet, prometheus.NewRegistry(), config.Sources()...).Run(ctx)
		step := func(change error) {
			require.NoError(t, change)
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		step(os.WriteFile(path, []byte("bob\n"), 0o600))
		assert.True(t, denies(c, "bob"))
		assert.False(t, denies(c, "alice"))
		require.Equal(t, 1, changes)
		step(os.WriteFile(path, []byte("\ufeffcarol\n"), 0o600))
		assert.True(t, denies(c, "bob"), "an invalid list changes nothing")
		step(os.Remove(path))
		assert.True(t, denies(c, "bob"), "nor does a missing file")
		require.Equal(t, 1, changes)
		step(os.WriteFile(path, nil, 0o600))
		assert.False(t, denies(c, "bob"), "an empty file denies nobody")
		require.Equal(t, 2, changes)
		stop()
		synctest.Wait()
	})
}
