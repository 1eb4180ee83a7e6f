package secret_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

func TestAFileIsReadAsItIsMeant(t *testing.T) {
	pem := "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----"
	for name, row := range map[string]struct{ content, value, fault string }{
		"no newline":                  {"abc", "abc", ""},
		"LF":                          {"abc\n", "abc", ""},
		"CRLF":                        {"abc\r\n", "abc", ""},
		"a CR alone":                  {"abc\r", "abc", ""},
		"spaces stay":                 {" abc ", " abc ", ""},
		"PEM ends as it likes":        {pem + "\n\n\n", pem + "\n\n", ""},
		"a file of the largest size":  {strings.Repeat("a", 1<<20), strings.Repeat("a", 1<<20), ""},
		"two newlines":                {"abc\n\n", "", "more than one newline"},
		"two CRLF":                    {"abc\r\n\r\n", "", "more than one newline"},
		"a blank first line":          {"\nabc\n", "", "blank line"},
		"a blank first line of PEM":   {"\r\n" + pem, "", "blank line"},
		"two lines":                   {"abc\ndef\n", "", "control characters"},
		"a byte order mark":           {"\ufeffabc", "", "byte order mark"},
		"UTF-16":                      {"\xff\xfea\x00", "", "byte order mark"},
		"quotes":                      {"\"abc\"\n", "", "quotes"},
		"empty":                       {"", "", "empty"},
		"a newline alone":             {"\n", "", "empty"},
		"a CRLF alone":                {"\r\n", "", "empty"},
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
	changed, err := v.Reload(t.Context())
	require.NoError(t, err)
	assert.True(t, changed)
	assert.Equal(t, "\na\n\n", v.Get().Reveal())
}

// A file that blocks its reader, as a hung mount does: a FIFO that nobody writes to.
func TestAFileThatBlocksHoldsUpNobody(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	write(t, path, "one")
	v, err := secret.FromFile("NAME_FILE", path)
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	for range 3 { // the first reading is still the only one
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err = v.Reload(ctx)
		cancel()
		require.ErrorContains(t, err, "did not answer in time")
	}
	assert.Equal(t, "one", v.Get().Reveal())
	writer, err := os.OpenFile(path, os.O_WRONLY, 0) // lets the reading end
	require.NoError(t, err)
	_, err = writer.WriteString("two")
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.Eventually(t, func() bool { return v.Get().Reveal() == "two" }, time.Minute, time.Millisecond)
}

func TestAFileThatBlocksAtStartIsAnErrorSoon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	_, err := secret.FromFile("NAME_FILE", path)
	require.ErrorContains(t, err, "did not answer in time")
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, writer.Close())
}

func TestAFileThatCannotBeReadMakesNoSource(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "missing"), dir} {
		_, err := secret.FromFile("NAME_FILE", path)
		require.ErrorContains(t, err, "NAME_FILE")
	}
}

func TestASourceIsIdenticalUntilItsContentChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "one")
	v, err := secret.FromFile("NAME_FILE", path)
	require.NoError(t, err)
	one := v.Get()
	for _, same := range []string{"one", "one\n", "one\r\n"} {
		write(t, path, same)
		changed, err := v.Reload(t.Context())
		require.NoError(t, err)
		assert.False(t, changed)
		assert.True(t, v.Get() == one)
	}
	write(t, path, "two")
	changed, err := v.Reload(t.Context())
	require.NoError(t, err)
	assert.True(t, changed)
	assert.False(t, v.Get() == one)
	assert.Equal(t, "two", v.Get().Reveal())
	assert.Equal(t, "one", one.Reveal(), "a value that someone holds stays as it is")
}

func TestAnEmptyOrMissingFileKeepsTheOldValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, canary)
	v, err := secret.FromFile("NAME_FILE", path)
	require.NoError(t, err)
	for name, spoil := range map[string]func(){
		"empty":     func() { write(t, path, "") },
		"a newline": func() { write(t, path, "\n") },
		"too large": func() { write(t, path, canary+strings.Repeat("a", 1<<20)) },
		"missing":   func() { require.NoError(t, os.Remove(path)) },
	} {
		write(t, path, canary)
		spoil()
		changed, err := v.Reload(t.Context())
		require.ErrorContains(t, err, "NAME_FILE", name)
		assertSealed(t, err.Error(), name)
		assert.False(t, changed, name)
		assert.Equal(t, canary, v.Get().Reveal(), name)
	}
}

func TestContentThatIsOfNoUseKeepsTheOldValueAndIsToldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "even")
	v, err := secret.FromFile("NAME_FILE", path)
	require.NoError(t, err)
	v.SetValidator(func(content string) error {
		if len(content)%2 != 0 {
			return errors.New("an odd length")
		}
		return nil
	})
	followed(t, []secret.Source{v}, func(t *testing.T, logged *lockedBuffer, reg *prometheus.Registry) {
		write(t, path, canary+"1")
		require.Equal(t, 1, (len(canary)+1)%2)
		tick()
		tick()
		assert.Equal(t, "even", v.Get().Reveal())
		assert.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
		assert.Contains(t, logged.String(), "an odd length")
		assertSealed(t, logged.String(), "log")
		count(t, reg, `tokenvend_file_reloads_total{outcome="changed",variable="NAME_FILE"} 0
tokenvend_file_reloads_total{outcome="failed",variable="NAME_FILE"} 6`)
		write(t, path, "well")
		tick()
		assert.Equal(t, "well", v.Get().Reveal())
	})
}

func TestAStaticSourceNeverChanges(t *testing.T) {
	v := secret.Static("NAME", secret.New("one"))
	changed, err := v.Reload(t.Context())
	require.NoError(t, err)
	assert.False(t, changed)
	assert.Equal(t, "one", v.Get().Reveal())
}

// kubernetes lays a volume out as the kubelet does: each file is a link into ..data, which is a link to
// a folder with the time in its name.
type kubernetes struct {
	dir string
	n   int
}

func (k *kubernetes) swap(t *testing.T, files map[string]string) {
	t.Helper()
	k.n++
	folder := fmt.Sprintf("..2026_01_01_00_00_%02d.123456789", k.n)
	require.NoError(t, os.Mkdir(filepath.Join(k.dir, folder), 0o700))
	for name, content := range files {
		write(t, filepath.Join(k.dir, folder, name), content)
		if k.n == 1 {
			require.NoError(t, os.Symlink(filepath.Join("..data", name), filepath.Join(k.dir, name)))
		}
	}
	old, _ := os.Readlink(filepath.Join(k.dir, "..data"))
	require.NoError(t, os.Symlink(folder, filepath.Join(k.dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(k.dir, "..data_tmp"), filepath.Join(k.dir, "..data")))
	if old != "" {
		require.NoError(t, os.RemoveAll(filepath.Join(k.dir, old)))
	}
}

// lockedBuffer is a log that the Follower writes while the test reads: synthetic time orders the two, and the
// race detector does not see it.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// followed runs a test in synthetic time with a Follower of vars.
func followed(t *testing.T, vars []secret.Source, test func(t *testing.T, logged *lockedBuffer, reg *prometheus.Registry)) {
	synctest.Test(t, func(t *testing.T) {
		var logged lockedBuffer
		reg := prometheus.NewPedanticRegistry()
		f := secret.NewWatcher(slog.New(slog.NewJSONHandler(&logged, nil)), reg, vars...)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		test(t, &logged, reg)
		cancel()
		wg.Wait()
	})
}

// tick waits for as long as the contract gives a new content.
func tick() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

func count(t *testing.T, reg *prometheus.Registry, want string) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP tokenvend_file_reloads_total Secret and certificate files read again, by outcome: changed, or failed (counted at every reading until it succeeds).
# TYPE tokenvend_file_reloads_total counter
`+want+"\n")))
}

func TestTheSwapOfAKubernetesVolumeIsFollowed(t *testing.T) {
	k := &kubernetes{dir: t.TempDir()}
	k.swap(t, map[string]string{"key": "key-1", "secret": canary + "1"})
	key, err := secret.FromFile("KEY_FILE", filepath.Join(k.dir, "key"))
	require.NoError(t, err)
	password, err := secret.FromFile("SECRET_FILE", filepath.Join(k.dir, "secret"))
	require.NoError(t, err)
	followed(t, []secret.Source{key, {}, password, secret.Static("STATIC", secret.New("x"))},
		func(t *testing.T, logged *lockedBuffer, reg *prometheus.Registry) {
			tick()
			assert.Empty(t, logged.String(), "nothing has changed")

			k.swap(t, map[string]string{"key": "key-1", "secret": canary + "2"})
			tick()
			assert.Equal(t, canary+"2", password.Get().Reveal())
			assert.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
			assert.Contains(t, logged.String(), `"variable":"SECRET_FILE","fingerprint":"`+password.Get().Fingerprint()+`"`)
			assertSealed(t, logged.String(), "log")

			k.swap(t, map[string]string{"secret": canary + "3"}) // the key has gone missing
			tick()
			tick()
			assert.Equal(t, "key-1", key.Get().Reveal())
			assert.Equal(t, canary+"3", password.Get().Reveal())
			assert.Equal(t, 1, strings.Count(logged.String(), `"level":"ERROR"`), "told once: %s", logged.String())
			count(t, reg, `tokenvend_file_reloads_total{outcome="changed",variable="KEY_FILE"} 0
tokenvend_file_reloads_total{outcome="changed",variable="SECRET_FILE"} 2
tokenvend_file_reloads_total{outcome="failed",variable="KEY_FILE"} 7
tokenvend_file_reloads_total{outcome="failed",variable="SECRET_FILE"} 0`)

			k.swap(t, map[string]string{"key": "", "secret": canary + "3"})
			tick()
			assert.Equal(t, 1, strings.Count(logged.String(), `"level":"ERROR"`), "still the same trouble")
			k.swap(t, map[string]string{"key": "key-2", "secret": canary + "3"})
			tick()
			assert.Equal(t, "key-2", key.Get().Reveal())
			k.swap(t, map[string]string{"key": "", "secret": canary + "3"})
			tick()
			assert.Equal(t, 2, strings.Count(logged.String(), `"level":"ERROR"`), "a new trouble is told again")
			assert.Equal(t, "key-2", key.Get().Reveal())
			assertSealed(t, logged.String(), "log")
		})
}

// A refused service account makes others read the files too; the change must be told all the same.
func TestAChangeThatAnotherReaderTookUpIsToldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "one")
	v, err := secret.FromFile("SECRET_FILE", path)
	require.NoError(t, err)
	followed(t, []secret.Source{v}, func(t *testing.T, logged *lockedBuffer, reg *prometheus.Registry) {
		write(t, path, "two")
		changed, err := v.Reload(t.Context())
		require.NoError(t, err)
		require.True(t, changed)
		tick()
		tick()
		assert.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
		count(t, reg, `tokenvend_file_reloads_total{outcome="changed",variable="SECRET_FILE"} 1
tokenvend_file_reloads_total{outcome="failed",variable="SECRET_FILE"} 0`)
	})
}

func TestWithoutFilesThereIsNothingToFollow(t *testing.T) {
	f := secret.NewWatcher(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), secret.Source{}, secret.Static("NAME", secret.New("x")))
	f.Run(t.Context()) // returns at once
}

func TestReadersAndReloadsMeetWithoutARace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write(t, path, "one")
	v, err := secret.FromFile("NAME_FILE", path)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				_, _ = v.Reload(t.Context())
				assert.NotEmpty(t, v.Get().Reveal())
			}
		})
	}
	next := path + ".next"
	for i := range 100 {
		write(t, next, fmt.Sprint(i))
		require.NoError(t, os.Rename(next, path))
	}
	wg.Wait()
	_, err = v.Reload(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "99", v.Get().Reveal())
}
