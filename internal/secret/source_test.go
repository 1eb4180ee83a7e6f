package secret_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// file makes a file and its Source.
func file(t *testing.T, content string) (s secret.Source, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	write(t, path, content)
	s, err := secret.FromFile("NAME_FILE", path)
	require.NoError(t, err)
	return s, path
}

func TestTheContentOfAFileIsTrimmedAndChecked(t *testing.T) {
	pem := "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"
	for name, row := range map[string]struct{ content, value, fault string }{
		"no newline":                  {"abc", "abc", ""},
		"LF":                          {"abc\n", "abc", ""},
		"CRLF":                        {"abc\r\n", "abc", ""},
		"a CR alone":                  {"abc\r", "abc", ""},
		"spaces stay":                 {" abc ", " abc ", ""},
		"PEM with more newlines":      {pem + " \n\n\n", pem + " \n\n", ""},
		"a file of the largest size":  {strings.Repeat("a", 1<<20), strings.Repeat("a", 1<<20), ""},
		"two newlines":                {"abc\n\n", "", "more than one newline"},
		"two CRLF":                    {"abc\r\n\r\n", "", "more than one newline"},
		"a blank first line":          {"\nabc\n", "", "blank line"},
		"a blank first line of PEM":   {"\r\n" + pem, "", "blank line"},
		"two lines":                   {"abc\ndef\n", "", "control characters"},
		"empty":                       {"", "", "empty"},
		"blank":                       {"  \u00a0 \n", "", "blank"},
		"a byte over the largest one": {strings.Repeat("a", 1<<20+1), "", "larger than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			write(t, path, row.content)
			v, err := secret.FromFile("NAME_FILE", path)
			if row.fault != "" {
				require.ErrorContains(t, err, "NAME_FILE")
				require.ErrorContains(t, err, row.fault)
				assert.NotContains(t, err.Error(), "abc")
				assert.False(t, v.IsSet())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.value, v.Get().Reveal())
			assert.Equal(t, "NAME_FILE", v.Name())
		})
	}
}

func TestATextFileMayBeEmpty(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "")
	v, err := secret.TextFile("LIST_FILE", path)
	require.NoError(t, err)
	write(t, path, "\na\n\n")
	require.NoError(t, v.Reload(t.Context()))
	assert.Equal(t, "\na\n\n", v.Get().Reveal())
}

// block replaces a file by a pipe with a silent writer, which blocks its reader as a hung mount does. The reading ends
// when release is called, with that content.
func block(t *testing.T, path string) (release func(content string)) {
	t.Helper()
	_ = os.Remove(path)
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	writer, err := os.OpenFile(path, os.O_RDWR, 0) // does not wait for a reader
	require.NoError(t, err)
	return func(content string) {
		_, err = writer.WriteString(content)
		require.NoError(t, err)
		require.NoError(t, writer.Close())
	}
}

func TestABlockingFileDelaysNobody(t *testing.T) {
	v, path := file(t, "one")
	release := block(t, path)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		require.ErrorContains(t, v.Reload(ctx), "did not answer in time")
		cancel()
	}
	assert.Equal(t, "one", v.Get().Reveal())
	release("two")
	write(t, path+".new", "two")
	require.NoError(t, os.Rename(path+".new", path))
	require.Eventually(t, func() bool {
		_ = v.Reload(t.Context())
		return v.Get().Reveal() == "two"
	}, time.Minute, time.Millisecond)
}

func TestAFileThatReplacesASilentPipeIsRead(t *testing.T) {
	v, path := file(t, "one")
	require.NoError(t, os.Remove(path))
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	require.ErrorContains(t, v.Reload(t.Context()), "did not answer in time", "it is not an empty file")
	require.NoError(t, os.Remove(path))
	write(t, path, "two")
	require.NoError(t, v.Reload(t.Context()))
	assert.Equal(t, "two", v.Get().Reveal())
}

func TestAFileThatCannotBeReadMakesNoSource(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	release := block(t, pipe)
	for path, fault := range map[string]string{
		filepath.Join(dir, "missing"): "no such file", dir: "is a directory", pipe: "did not answer in time",
	} {
		_, err := secret.FromFile("NAME_FILE", path)
		require.ErrorContains(t, err, "NAME_FILE: ")
		require.ErrorContains(t, err, fault)
		assert.NotContains(t, err.Error(), dir)
	}
	release("")
}

func TestASourceIsIdenticalUntilItsContentChanges(t *testing.T) {
	v, path := file(t, "one")
	one := v.Get()
	for _, same := range []string{"one", "one\n", "one\r\n"} {
		write(t, path, same)
		require.NoError(t, v.Reload(t.Context()))
		assert.True(t, v.Get() == one)
	}
	write(t, path, "two")
	require.NoError(t, v.Reload(t.Context()))
	assert.Equal(t, "two", v.Get().Reveal())
	assert.Equal(t, "one", one.Reveal(), "a Value does not change")
}

func TestSourcesWithoutAFileAreNotReloaded(t *testing.T) {
	var none, inline secret.Source
	require.NoError(t, inline.Decode(" one "))
	assert.False(t, none.IsSet())
	assert.True(t, inline.IsSet())
	assert.Empty(t, none.Get().Reveal())
	secret.NewWatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), none, inline).Run(t.Context()) // returns at once
	require.NoError(t, none.Reload(t.Context()))
	require.NoError(t, inline.Reload(t.Context()))
	assert.Equal(t, " one ", inline.Get().Reveal())
}

func TestReadersAndReloadsDoNotRace(t *testing.T) {
	v, path := file(t, "one")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				_ = v.Reload(t.Context())
				assert.NotEmpty(t, v.Get().Reveal())
			}
		})
	}
	for i := range 100 {
		write(t, path+".next", fmt.Sprint(i))
		require.NoError(t, os.Rename(path+".next", path))
	}
	wg.Wait()
}
