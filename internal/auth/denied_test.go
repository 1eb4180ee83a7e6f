package auth_test

import (
	"context"
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
)

// denying is the list of a file with that content.
func denying(content string) (*auth.DeniedUsers, error) {
	return auth.NewDeniedUsers(secret.Static("DENIED_USERS_FILE", secret.New(content)), quiet)
}

func TestAListOfDeniedUsersIsOneNameALine(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, content string
		denied        []string
		not           []string
	}{
		{"an empty file denies nobody", "", nil, []string{"alice", ""}},
		{"comments and blank lines deny nobody", "# alice\n\n \t\n#bob\r\n", nil, []string{"alice", "bob", "# alice", ""}},
		{"one name without a newline", "alice", []string{"alice"}, []string{"Alice", "alic", "alicea", ""}},
		{"several, from Windows", "alice\r\nbob\r\n", []string{"alice", "bob"}, []string{"alice\r\nbob"}},
		{"blanks around a name", "  alice \t\n", []string{"alice", "  alice"}, []string{"ali ce"}},
		{"blanks within a name", "Alice Liddell\n", []string{"Alice Liddell"}, []string{"Alice", "Liddell"}},
		{"a # anywhere else is part of the name", "al#ice\n #bob\ncarol # left\n", []string{"al#ice", "#bob", "carol # left"}, []string{"al", "bob", "carol"}},
		{"names beyond ASCII, and commas", "Jürgen\nCN=a,OU=b\n42\n", []string{"Jürgen", "CN=a,OU=b", "42"}, []string{"CN=a", "4"}},
	} {
		d, err := denying(test.content)
		require.NoError(t, err, test.name)
		for _, name := range test.denied {
			assert.True(t, d.Denied(name), "%s: %q", test.name, name)
		}
		for _, name := range test.not {
			assert.False(t, d.Denied(name), "%s: %q", test.name, name)
		}
	}
	assert.False(t, (*auth.DeniedUsers)(nil).Denied("alice"), "no file denies nobody")
}

func TestAFileThatCannotBeAListOfUsersIsRefused(t *testing.T) {
	t.Parallel()
	for content, says := range map[string]string{
		"\ufeffalice\n":                        "line 1 begins with a byte order mark",
		"\ufeff# comment\n":                    "line 1 begins with a byte order mark",
		"\xff\xfea\x00l\x00":                   "line 1 begins with a byte order mark",
		"a\x00l\x00i\x00c\x00e\x00":            "NUL",
		"bob\ncanary\rcarol\n":                 "line 2 holds control characters",
		"bob\n\"canary\"\n":                    "line 2 is in quotes",
		"bob\ncanary\xff\n":                    "line 2 is not the name of a user",
		"# x\n" + strings.Repeat("canary", 43): "line 2 is not the name of a user",
	} {
		_, err := denying(content)
		require.ErrorContains(t, err, says, "%q", content)
		assert.True(t, strings.HasPrefix(err.Error(), "DENIED_USERS_FILE"), err.Error())
		assert.NotContains(t, err.Error(), "canary")
	}
}

func TestANewListIsInUseWithinTenSecondsAndABadOneNever(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "denied")
	require.NoError(t, os.WriteFile(path, []byte("alice\n"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		file := must(secret.TextFile("DENIED_USERS_FILE", path))
		d := must(auth.NewDeniedUsers(file, quiet))
		ctx, stop := context.WithCancel(t.Context())
		changes := 0
		go d.Run(ctx, func() { changes++ })
		go secret.NewWatcher(quiet, prometheus.NewRegistry(), file).Run(ctx)
		step := func(change func() error) {
			require.NoError(t, change())
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}
		write := func(content string) func() error {
			return func() error { return os.WriteFile(path, []byte(content), 0o600) }
		}
		step(write("bob\n"))
		assert.True(t, d.Denied("bob"))
		assert.False(t, d.Denied("alice"))
		require.Equal(t, 1, changes)
		step(write("\ufeffcarol\n"))
		assert.True(t, d.Denied("bob"), "what is no list changes nothing")
		step(func() error { return os.Remove(path) })
		assert.True(t, d.Denied("bob"), "nor does a file that is gone")
		require.Equal(t, 1, changes)
		step(write(""))
		assert.False(t, d.Denied("bob"), "an empty file denies nobody")
		require.Equal(t, 2, changes)
		stop()
		synctest.Wait()
	})
}

func FuzzDeniedUsers(f *testing.F) {
	for _, seed := range []string{"", "alice", "#alice\nbob\r\n", " # a\n", "\ufeffalice", "a\x00", "a\rb", "\"a\"", strings.Repeat("a", 257), "\xff\xfe", "a\u2028b\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content string) {
		d, err := denying(content)
		if err != nil {
			return
		}
		for line := range strings.Lines(content) {
			if name := strings.TrimSpace(line); d.Denied(name) != (name != "" && line[0] != '#') && !strings.HasPrefix(name, "#") {
				t.Errorf("%q of %q", name, content)
			}
		}
	})
}
