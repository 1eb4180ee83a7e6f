package reliability_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/freeport"
	"github.com/sethealth/tokenvend/test/harness"
)

// TestTheLogNeverDecidesWhetherTheServiceLives: whatever becomes of standard error, requests are answered, lost
// lines are counted, and the drain ends (cybozu-go/well#13, containerd#580, kapacitor#737).
func TestTheLogNeverDecidesWhetherTheServiceLives(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		open func(t *testing.T) *os.File // what standard error becomes
		lost bool
	}{
		"its reader goes away": {func(t *testing.T) *os.File {
			read, write, err := os.Pipe()
			require.NoError(t, err)
			require.NoError(t, read.Close())
			return write
		}, true},
		"its reader stalls": {func(t *testing.T) *os.File {
			read, write, err := os.Pipe()
			require.NoError(t, err)
			t.Cleanup(func() { _ = read.Close() })
			return write
		}, false}, // that many lines fit into the queue
		"the disk is full": {func(t *testing.T) *os.File {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			require.NoError(t, err)
			return full
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, cmd := startWith(t, row.open(t), nil)
			session := harness.Session(t, "alice")
			harness.Eventually(t, time.Minute, "the service serves", func() bool {
				answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
				return err == nil && answer.Status == 200
			})
			for range 500 {
				require.Equal(t, 200, s.Ask(session).Status)
			}
			if row.lost {
				assert.Greater(t, s.Metric("tokenvend_log_lines_lost_total"), 400.0)
			}
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				assert.NoError(t, err, "exit code 0")
			case <-time.After(30 * time.Second):
				require.Fail(t, "the drain does not end")
			}
		})
	}
}

// startWith starts the service with a standard error of the test's own.
func startWith(t *testing.T, log *os.File, more harness.Env) (*harness.Service, *exec.Cmd) {
	port, admin := freeport.New(t), freeport.New(t)
	cmd := harness.Command(t, harness.NewUpstream(t, false).Env().With(harness.Env{
		"LISTEN_ADDR": "127.0.0.1:" + port, "ADMIN_ADDR": "127.0.0.1:" + admin, "SHUTDOWN_DELAY": "0s", "RATE_LIMIT": "off",
	}).With(more))
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	require.NoError(t, log.Close())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return harness.At(t, "http://127.0.0.1:"+port, "http://127.0.0.1:"+admin), cmd
}

func TestAuditRecordsAreWrittenAtEveryLevel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	log, err := os.Create(path)
	require.NoError(t, err)
	s, _ := startWith(t, log, harness.Env{"LOG_LEVEL": "error"})
	harness.Eventually(t, time.Minute, "an audit record", func() bool {
		_, _ = s.Try("POST", "/token", "", "Authorization", "Bearer "+harness.Session(t, "alice"))
		written, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(written), `"event":"token.issued"`)
	})
}

// TestASecretFileThatBlocksHoldsUpNobody: a FIFO that nobody writes to, as a hung mount would.
func TestASecretFileThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(harness.Secret), 0o600))
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env().With(harness.Env{
		"SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": file, "SETHEALTH_TIMEOUT": "2s", "SETHEALTH_ATTEMPT_TIMEOUT": "1s",
	}))
	require.NoError(t, os.Remove(file))
	require.NoError(t, exec.Command("mkfifo", file).Run())
	require.NoError(t, u.SetNamed("refuse", 0))
	began := time.Now()
	assert.Equal(t, "upstream_rejected", s.Ask(harness.Session(t, "alice")).Code())
	assert.Less(t, time.Since(began), 2*time.Second+slack)
	assert.Zero(t, s.Stop())
}
