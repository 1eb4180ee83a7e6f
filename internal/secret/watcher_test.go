package secret_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/testkit"
)

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

// followed runs a test in synthetic time with a Watcher of vars.
func followed(t *testing.T, vars []secret.Source, test func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry)) {
	synctest.Test(t, func(t *testing.T) {
		var logged testkit.Buffer // waking up after a sleep does not order what the Watcher writes
		reg := prometheus.NewPedanticRegistry()
		f := secret.NewWatcher(slog.New(slog.NewJSONHandler(&logged, nil)), reg, vars...)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		synctest.Wait()
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
		func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry) {
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
			assert.Equal(t, "key-1", key.Get().Reveal())
			assert.Equal(t, canary+"3", password.Get().Reveal())
			count(t, reg, `tokenvend_file_reloads_total{outcome="changed",variable="KEY_FILE"} 0
tokenvend_file_reloads_total{outcome="changed",variable="SECRET_FILE"} 2
tokenvend_file_reloads_total{outcome="failed",variable="KEY_FILE"} 4
tokenvend_file_reloads_total{outcome="failed",variable="SECRET_FILE"} 0`)
		})
}

// A refused service account makes others read the files too; the change must be told all the same.
func TestAChangeThatAnotherReaderTookUpIsToldOnce(t *testing.T) {
	v, path := file(t, "one")
	followed(t, []secret.Source{v}, func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry) {
		write(t, path, "two")
		require.NoError(t, v.Reload(t.Context()))
		tick()
		tick()
		assert.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
		count(t, reg, `tokenvend_file_reloads_total{outcome="changed",variable="NAME_FILE"} 1
tokenvend_file_reloads_total{outcome="failed",variable="NAME_FILE"} 0`)
	})
}

func TestContentThatIsOfNoUseKeepsTheOldValueAndIsToldOnce(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"empty":     func(t *testing.T, path string) { write(t, path, "") },
		"blank":     func(t *testing.T, path string) { write(t, path, " \n") },
		"a newline": func(t *testing.T, path string) { write(t, path, "\n") },
		"too large": func(t *testing.T, path string) { write(t, path, canary+strings.Repeat("a", 1<<20)) },
		"missing":   func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"refused":   func(t *testing.T, path string) { write(t, path, canary+" refused") },
	} {
		t.Run(name, func(t *testing.T) {
			v, path := file(t, canary)
			v.SetValidator(func(content string) error {
				if strings.HasSuffix(content, "refused") {
					return errors.New("it is of no use")
				}
				return nil
			})
			followed(t, []secret.Source{v}, func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry) {
				spoil(t, path)
				tick()
				tick()
				assert.Equal(t, canary, v.Get().Reveal())
				assert.Equal(t, 1, strings.Count(logged.String(), `"level":"ERROR"`), logged.String())
				assert.NotContains(t, logged.String(), "NAME_FILE: ", "the line names the variable already")
				assertSealed(t, logged.String(), "log")
				count(t, reg, `tokenvend_file_reloads_total{outcome="changed",variable="NAME_FILE"} 0
tokenvend_file_reloads_total{outcome="failed",variable="NAME_FILE"} 6`)
				write(t, path, "well")
				tick()
				assert.Equal(t, "well", v.Get().Reveal())
				spoil(t, path)
				tick()
				assert.Equal(t, 2, strings.Count(logged.String(), `"level":"ERROR"`), "a new trouble is told again")
			})
		})
	}
}

func TestAnotherFaultOfABrokenFileIsToldToo(t *testing.T) {
	v, path := file(t, canary)
	followed(t, []secret.Source{v}, func(t *testing.T, logged *testkit.Buffer, _ *prometheus.Registry) {
		write(t, path, "")
		tick()
		require.NoError(t, os.Remove(path))
		tick()
		assert.Regexp(t, `(?s)^[^\n]*"error":"the file is empty[^\n]*\n[^\n]*"error":"no such file[^\n]*\n$`, logged.String())
	})
}
