package secret_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
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

// watched runs a test in synthetic time with a Watcher of v.
func watched(t *testing.T, v secret.Source, test func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry)) {
	synctest.Test(t, func(t *testing.T) {
		var logged testkit.Buffer // waking up after a sleep does not order what the Watcher writes
		reg := prometheus.NewPedanticRegistry()
		w := secret.NewWatcher(slog.New(slog.NewJSONHandler(&logged, nil)), reg, v)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		synctest.Wait()
		test(t, &logged, reg)
		cancel()
		wg.Wait()
	})
}

// tick waits for as long as it may take until new content is used.
func tick() {
	time.Sleep(10 * time.Second)
	synctest.Wait()
}

func requireReloads(t *testing.T, reg *prometheus.Registry, changed, failed int) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP tokenvend_file_reloads_total Secret and certificate files read again, by outcome: changed, or failed (counted at every reading until it succeeds).
# TYPE tokenvend_file_reloads_total counter
tokenvend_file_reloads_total{outcome="changed",variable="NAME_FILE"} %d
tokenvend_file_reloads_total{outcome="failed",variable="NAME_FILE"} %d
`, changed, failed))))
}

// A refused service account causes a reload elsewhere; the change must be logged all the same.
func TestAChangeIsLoggedOnceWithItsFingerprintWhoeverReloadsFirst(t *testing.T) {
	for name, reloadedElsewhere := range map[string]bool{"the watcher": false, "another": true} {
		t.Run(name, func(t *testing.T) {
			v, path := file(t, canary)
			watched(t, v, func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry) {
				tick()
				assert.Empty(t, logged.String(), "nothing has changed")
				write(t, path, canary+"2")
				if reloadedElsewhere {
					require.NoError(t, v.Reload(t.Context()))
				}
				tick()
				tick()
				assert.Equal(t, canary+"2", v.Get().Reveal())
				assert.Equal(t, 1, strings.Count(logged.String(), "\n"), logged.String())
				assert.Contains(t, logged.String(), `"variable":"NAME_FILE","fingerprint":"`+v.Get().Fingerprint()+`"`)
				assertSealed(t, logged.String(), "log")
				requireReloads(t, reg, 1, 0)
			})
		})
	}
}

func TestUnusableContentKeepsTheOldValueAndIsLoggedOnce(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"empty":     func(t *testing.T, path string) { write(t, path, "") },
		"too large": func(t *testing.T, path string) { write(t, path, canary+strings.Repeat("a", 1<<20)) },
		"missing":   func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
		"refused":   func(t *testing.T, path string) { write(t, path, canary+" refused") },
	} {
		t.Run(name, func(t *testing.T) {
			v, path := file(t, canary)
			v.SetValidator(func(content string) error {
				if strings.HasSuffix(content, "refused") {
					return errors.New("it is refused")
				}
				return nil
			})
			watched(t, v, func(t *testing.T, logged *testkit.Buffer, reg *prometheus.Registry) {
				spoil(t, path)
				tick()
				tick()
				assert.Equal(t, canary, v.Get().Reveal())
				assert.Equal(t, 1, strings.Count(logged.String(), `"level":"ERROR"`), logged.String())
				assert.NotContains(t, logged.String(), "NAME_FILE: ", "the line names the variable already")
				assertSealed(t, logged.String(), "log")
				requireReloads(t, reg, 0, 6)
				write(t, path, "valid")
				tick()
				assert.Equal(t, "valid", v.Get().Reveal())
				spoil(t, path)
				tick()
				assert.Equal(t, 2, strings.Count(logged.String(), `"level":"ERROR"`), "a new fault is logged again")
			})
		})
	}
}

func TestAnotherFaultOfABrokenFileIsLoggedToo(t *testing.T) {
	v, path := file(t, canary)
	watched(t, v, func(t *testing.T, logged *testkit.Buffer, _ *prometheus.Registry) {
		write(t, path, "")
		tick()
		require.NoError(t, os.Remove(path))
		tick()
		assert.Regexp(t, `(?s)^[^\n]*"error":"the file is empty[^\n]*\n[^\n]*"error":"no such file[^\n]*\n$`, logged.String())
	})
}
