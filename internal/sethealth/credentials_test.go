package sethealth_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// accepts answers like an upstream that accepts one secret.
func accepts(password string) script {
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

// rotating is a client without retries whose credentials are in files. Files are read in real time.
func rotating(t *testing.T, u *upstream, change ...func(*fixture)) (c *sethealth.Client, f *fixture, dir string) {
	f, dir = defaults(), t.TempDir()
	f.Transport, f.MaxRetries = u, 0
	fromFile := func(variable, name string) secret.Source {
		write(t, filepath.Join(dir, name), name+"-1")
		source, err := secret.FromFile(variable, filepath.Join(dir, name))
		require.NoError(t, err)
		return source
	}
	f.Key, f.Secret = fromFile("SETHEALTH_KEY_FILE", "key"), fromFile("SETHEALTH_SECRET_FILE", "secret")
	for _, c := range change {
		c(f)
	}
	return f.client(t), f, dir
}

func TestARefusedPairIsReloadedAndANewOneTriedOnce(t *testing.T) {
	u := &upstream{answer: accepts("secret-2")}
	c, _, dir := rotating(t, u)
	_, err := c.Issue(t.Context(), anna, nothing)
	require.ErrorIs(t, err, sethealth.ErrRejected)
	assert.Equal(t, 1, u.count(), "without a new secret there is no new attempt")

	write(t, filepath.Join(dir, "secret"), "secret-2\n")
	_, err = c.Issue(t.Context(), anna, nothing)
	require.NoError(t, err)
	assert.Equal(t, 3, u.count())

	u.set(accepts("secret-4"))
	write(t, filepath.Join(dir, "secret"), "secret-3")
	_, err = c.Issue(t.Context(), anna, nothing)
	require.ErrorIs(t, err, sethealth.ErrRejected)
	assert.Equal(t, 5, u.count(), "only once")
}

func TestAPairReloadedMeanwhileIsTriedToo(t *testing.T) {
	u := &upstream{}
	c, f, dir := rotating(t, u)
	u.set(func(r *http.Request, n int) (*http.Response, error) {
		if n == 1 { // the watcher reads the new file while the refusal is on its way
			write(t, filepath.Join(dir, "secret"), "secret-2")
			require.NoError(t, f.Secret.Reload(r.Context()))
			return reply(401, ""), nil
		}
		return accepts("secret-2")(r, n)
	})
	_, err := c.Issue(t.Context(), anna, nothing)
	require.NoError(t, err)
	assert.Equal(t, 2, u.count())
	_, err = c.Issue(t.Context(), anna, nothing)
	require.NoError(t, err)
	assert.Equal(t, 3, u.count(), "the next request begins with it")
}

func TestAnUnreadableKeyFileDoesNotBlockANewSecret(t *testing.T) {
	var logged bytes.Buffer
	u := &upstream{answer: accepts("secret-2")}
	c, _, dir := rotating(t, u, func(f *fixture) { f.Logger = slog.New(slog.NewJSONHandler(&logged, nil)) })
	require.NoError(t, os.Remove(filepath.Join(dir, "key")))
	write(t, filepath.Join(dir, "secret"), "secret-2")
	_, err := c.Issue(t.Context(), anna, nothing)
	require.NoError(t, err)
	assert.Contains(t, logged.String(), "SETHEALTH_KEY_FILE")
	assert.NotContains(t, logged.String(), "secret-")
}

// A pipe whose writer is silent blocks its reader, as a hung mount does.
func TestAFileThatBlocksDelaysARequestByOneAttemptAtMost(t *testing.T) {
	u := &upstream{answer: always(401)}
	c, _, dir := rotating(t, u, func(f *fixture) { f.AttemptTimeout, f.Timeout = 50*time.Millisecond, time.Minute })
	pipe := filepath.Join(dir, "secret")
	require.NoError(t, os.Remove(pipe))
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	silent, err := os.OpenFile(pipe, os.O_RDWR, 0)
	require.NoError(t, err)
	defer silent.Close()
	_, err = c.Issue(t.Context(), anna, nothing)
	require.ErrorIs(t, err, sethealth.ErrRejected)
}
