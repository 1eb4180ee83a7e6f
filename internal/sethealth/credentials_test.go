package sethealth_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// fromFiles are credentials in two files of a folder.
func fromFiles(t *testing.T, key, password string) (*sethealth.Credentials, string) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), key)
	write(t, filepath.Join(dir, "secret"), password)
	k, err := secret.FromFile("SETHEALTH_KEY_FILE", filepath.Join(dir, "key"))
	require.NoError(t, err)
	s, err := secret.FromFile("SETHEALTH_SECRET_FILE", filepath.Join(dir, "secret"))
	require.NoError(t, err)
	return sethealth.NewCredentials(k, s), dir
}

func TestTheAccountChangesWithEitherHalf(t *testing.T) {
	c, dir := fromFiles(t, "key-1", "secret-1")
	seen := map[string]bool{c.Account(): true}
	assert.Regexp(t, `^[0-9a-f]{16}$`, c.Account())
	assert.Equal(t, credentials().Account(), c.Account(), "the same on every replica")

	changed, err := c.Reload()
	require.NoError(t, err)
	assert.False(t, changed)
	for file, content := range map[string]string{"key": "key-2", "secret": "secret-2"} {
		write(t, filepath.Join(dir, file), content)
		changed, err = c.Reload()
		require.NoError(t, err)
		assert.True(t, changed)
		assert.False(t, seen[c.Account()], "%s changed and the account did not", file)
		seen[c.Account()] = true
	}
	assert.Equal(t, "key-2", c.Pair().Key.Reveal())
	assert.Equal(t, "secret-2", c.Pair().Secret.Reveal())

	require.NoError(t, os.Remove(filepath.Join(dir, "key")))
	write(t, filepath.Join(dir, "secret"), "secret-3")
	changed, err = c.Reload()
	require.ErrorContains(t, err, "SETHEALTH_KEY_FILE")
	assert.True(t, changed, "one half that cannot be read does not hold up the other")
	assert.Equal(t, "key-2", c.Pair().Key.Reveal())
	assert.Equal(t, "secret-3", c.Pair().Secret.Reveal())
}

func TestPseudonymsAreStableAndKeyed(t *testing.T) {
	c, dir := fromFiles(t, "key-1", "secret-1")
	anna := c.Pseudonym("anna")
	assert.Regexp(t, `^[0-9a-f]{32}$`, anna)
	assert.Equal(t, anna, credentials().Pseudonym("anna"))
	assert.NotEqual(t, anna, c.Pseudonym("Anna"))
	write(t, filepath.Join(dir, "secret"), "secret-2")
	_, err := c.Reload()
	require.NoError(t, err)
	assert.NotEqual(t, anna, c.Pseudonym("anna"))
	assert.NotEqual(t, c.Derive("a"), c.Derive("b"))
	assert.Len(t, c.Derive("a"), 32)
}

func TestAskingForTheAccountAllocatesNothing(t *testing.T) {
	c := credentials()
	c.Account()
	assert.Zero(t, testing.AllocsPerRun(100, func() { c.Account() }))
}

func TestCredentialsBearConcurrentReloads(t *testing.T) {
	c, dir := fromFiles(t, "key-1", "secret-1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				_, _ = c.Reload()
				c.Account()
				c.Pseudonym("anna")
			}
		})
	}
	write(t, filepath.Join(dir, "secret"), "secret-2")
	wg.Wait()
	_, err := c.Reload()
	require.NoError(t, err)
	assert.Equal(t, "secret-2", c.Pair().Secret.Reveal())
}

func TestCredentialsCannotBePrinted(t *testing.T) {
	c := credentials()
	c.Account()
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{c, c.Pair(), struct{ c *sethealth.Credentials }{c}, struct{ p sethealth.Pair }{c.Pair()}} {
			assert.NotContains(t, fmt.Sprintf(format, v), "secret-1")
			assert.NotContains(t, fmt.Sprintf(format, v), "key-1")
		}
	}
}

// accepts is an upstream that knows one secret.
func accepts(password string) func(*http.Request, int) (*http.Response, error) {
	return func(r *http.Request, _ int) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(body), `"secret":"`+password+`"`) {
			return reply(401, ""), nil
		}
		return reply(200, `{"token":"t"}`), nil
	}
}

func TestARefusedPairIsReadAgainAndTheNewOneTriedOnce(t *testing.T) {
	creds, dir := fromFiles(t, "key-1", "secret-1")
	bubble(t, func(o *sethealth.Options) { noRetries(o); o.Credentials = creds }, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(accepts("secret-2"))
		_, err := c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrRejected)
		assert.Equal(t, 1, u.count(), "nothing new, nothing tried")

		write(t, filepath.Join(dir, "secret"), "secret-2\n")
		token, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		assert.Equal(t, 3, u.count())
		assert.Equal(t, creds.Account(), token.Account, "the account that bought it")

		u.set(accepts("secret-4"))
		write(t, filepath.Join(dir, "secret"), "secret-3")
		_, err = c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrRejected)
		assert.Equal(t, 5, u.count(), "once, not for ever")
	})
}

func TestAPairThatWasTakenUpMeanwhileIsTriedToo(t *testing.T) {
	creds, dir := fromFiles(t, "key-1", "secret-1")
	bubble(t, func(o *sethealth.Options) { noRetries(o); o.Credentials = creds }, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(func(r *http.Request, n int) (*http.Response, error) {
			resp, err := accepts("secret-2")(r, n)
			if n == 1 { // somebody else reads the new file while this answer is on its way
				write(t, filepath.Join(dir, "secret"), "secret-2")
				_, err = creds.Reload()
			}
			return resp, err
		})
		_, err := c.Issue(t.Context(), "u", 0)
		require.NoError(t, err)
		assert.Equal(t, 2, u.count())
	})
}

func TestARefusalWithUnreadableFilesIsLogged(t *testing.T) {
	creds, dir := fromFiles(t, "key-1", "secret-1")
	require.NoError(t, os.Remove(filepath.Join(dir, "secret")))
	var logged bytes.Buffer
	bubble(t, func(o *sethealth.Options) {
		o.Credentials, o.Logger = creds, slog.New(slog.NewJSONHandler(&logged, nil))
	}, func(t *testing.T, c *sethealth.Client, u *upstream) {
		u.set(always(403))
		_, err := c.Issue(t.Context(), "u", 0)
		require.ErrorIs(t, err, sethealth.ErrRejected)
		assert.Equal(t, 1, u.count())
	})
	assert.Contains(t, logged.String(), "SETHEALTH_SECRET_FILE")
	assert.NotContains(t, logged.String(), "secret-1")
}
