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

// denyList is a file of that content.
func denyList(t testing.TB, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// denying is the check proxy with that file.
func denying(path string, d auth.Deps) (*auth.Chain, []secret.Source, error) {
	c := auth.Config{
		SessionCheck: setting.List{"proxy"}, TrustedProxies: proxies, DeniedUsersFile: path,
		ProxyConfig: auth.ProxyConfig{UserHeader: "X-Forwarded-User"},
	}
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	d.Logger, d.Registerer = quiet, prometheus.NewRegistry()
	chain, err := auth.New(c, d)
	return chain, c.Sources(), err
}

func denies(c *auth.Chain, name string) bool {
	r := request("X-Forwarded-User", name)
	r.RemoteAddr = "10.0.0.1:9"
	_, err := c.Authenticate(r)
	return errors.Is(err, auth.ErrForbidden)
}

func TestAListOfDeniedUsersIsOneNameALine(t *testing.T) {
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
		c, _, err := denying(denyList(t, test.content), auth.Deps{})
		require.NoError(t, err, test.name)
		for _, name := range test.denied {
			assert.True(t, denies(c, name), "%s: %q", test.name, name)
		}
		for _, name := range test.not {
			assert.False(t, denies(c, name), "%s: %q", test.name, name)
		}
	}
}

func TestAFileThatCannotBeAListOfUsersIsRefused(t *testing.T) {
	t.Parallel()
	for content, says := range map[string]string{
		"\ufeffalice\n":                        "line 1 begins with a byte order mark",
		"\ufeff# comment\n":                    "line 1 begins with a byte order mark",
		"a\x00l\x00i\x00c\x00e\x00":            "NUL",
		"bob\ncanary\rcarol\n":                 "line 2 holds control characters",
		"bob\n\"canary\"\n":                    "line 2 is in quotes",
		"# x\n" + strings.Repeat("canary", 43): "line 2 is not the name of a user",
	} {
		_, _, err := denying(denyList(t, content), auth.Deps{})
		require.ErrorContains(t, err, "DENIED_USERS_FILE must name a list of users that can be read: ", "%q", content)
		require.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "canary")
	}
	_, _, err := denying("/nowhere/canary", auth.Deps{})
	require.EqualError(t, err, "DENIED_USERS_FILE must name a list of users that can be read: no such file or directory")
}

func TestANewListIsInUseWithinTenSecondsAndABadOneNever(t *testing.T) {
	t.Parallel()
	path := denyList(t, "alice\n")
	synctest.Test(t, func(t *testing.T) {
		changes := 0
		c, sources, err := denying(path, auth.Deps{Denied: func(denied func(string) bool) {
			assert.False(t, denied("alice"))
			changes++
		}})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		go c.Run(ctx)
		go secret.NewWatcher(quiet, prometheus.NewRegistry(), sources...).Run(ctx)
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
		assert.True(t, denies(c, "bob"), "what is no list changes nothing")
		step(os.Remove(path))
		assert.True(t, denies(c, "bob"), "nor does a file that is gone")
		require.Equal(t, 1, changes)
		step(os.WriteFile(path, nil, 0o600))
		assert.False(t, denies(c, "bob"), "an empty file denies nobody")
		require.Equal(t, 2, changes)
		stop()
		synctest.Wait()
	})
}
