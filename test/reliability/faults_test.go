// Package reliability_test holds the built binary to what docs/reliability.md says of it: each fault of
// Sethealth, its outages, and files that change.
package reliability_test

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

var (
	statusOf   = map[string]int{"upstream_rejected": 502, "upstream_invalid": 502, "upstream_unavailable": 503, "upstream_timeout": 504}
	retryAfter = map[string]string{"upstream_unavailable": "2"}
	calls      = map[bool]int{true: 3, false: 1} // by whether the fault is retried
)

// TestEveryFaultIsAnsweredAsThePageSays plays each fault to a user without a token and to one whose token is to
// be replaced. Those that hang have a service of their own, with short time-outs: no other fault is to look like
// one on a busy machine.
func TestEveryFaultIsAnsweredAsThePageSays(t *testing.T) {
	for name, row := range map[string]struct {
		hangs bool
		env   harness.Env
	}{
		"that hangs": {true, harness.Env{"SETHEALTH_ATTEMPT_TIMEOUT": "500ms"}},
		"that ends":  {false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.NewSethealth(t)
			s := harness.Start(t, u.Env().With(harness.Env{"RATE_LIMIT": "off", "LOG_LEVEL": "debug"}).With(row.env))
			u.SetJWTLife(25 * time.Minute)
			alice := harness.Session(t, "alice")
			held := eventually(t, s, alice).Token()
			for _, f := range all() {
				if (f.code == "upstream_timeout") == row.hangs {
					t.Run(f.name, func(t *testing.T) { f.play(t, u, s, alice, held) })
				}
			}
			for _, never := range []string{echo, harness.Key, harness.Secret, harness.SessionSecret} {
				assert.NotContains(t, s.Output(), never)
			}
		})
	}
}

// eventually is a success: a busy machine may miss a short time-out now and then.
func eventually(t *testing.T, s *harness.Service, session string) (answer harness.Answer) {
	t.Helper()
	harness.Eventually(t, "a token", func() bool {
		answer = s.Ask(session)
		return answer.Status == 200
	})
	return answer
}

func (f fault) play(t *testing.T, u *harness.Sethealth, s *harness.Service, alice, held string) {
	f.begin(u)
	before := s.Metric("tokenvend_upstream_calls_total")
	answer := s.Ask(harness.Session(t, "new to "+f.name), "Origin", harness.Origin)
	assert.Equal(t, f.code, answer.Code(), answer.Body)
	assert.Equal(t, statusOf[f.code], answer.Status)
	assert.Equal(t, retryAfter[f.code], answer.Header.Get("Retry-After"))
	assert.Equal(t, harness.Origin, answer.Header.Get("Access-Control-Allow-Origin"))
	assert.NotContains(t, fmt.Sprint(answer.Header, answer.Body), echo)
	assert.EqualValues(t, calls[f.retried], s.Metric("tokenvend_upstream_calls_total")-before)

	answer = s.Do("POST", "/token", `{"min_life": 1800}`, "Authorization", "Bearer "+alice)
	assert.Equal(t, held, answer.Token(), answer.Body)
	assert.Equal(t, "stale", s.Record(answer)["source"])
	assert.Greater(t, answer.ExpiresIn(), time.Minute)

	repair(u)
	eventually(t, s, harness.Session(t, "after "+f.name))

	page, err := os.ReadFile(filepath.Join(harness.Root, "docs", "reliability.md"))
	require.NoError(t, err)
	row := fmt.Sprintf("%d `%s`", statusOf[f.code], f.code)
	if after := retryAfter[f.code]; after != "" {
		row += ", `Retry-After: " + after + "`"
	}
	assert.Contains(t, string(page), fmt.Sprintf("| %s | its token | %d\n", row, calls[f.retried]))
}

func TestACertificateThatIsNotTrustedIsAnOutage(t *testing.T) {
	t.Parallel()
	unknown := httptest.NewUnstartedServer(nil)
	unknown.Config.ErrorLog = log.New(io.Discard, "", 0)
	unknown.StartTLS()
	t.Cleanup(unknown.Close)
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"SETHEALTH_URL": unknown.URL}))
	answer := s.Ask(harness.Session(t, "alice"))
	assert.Equal(t, "upstream_unavailable", answer.Code())
	assert.Contains(t, s.Record(answer)["error"], "SSL_CERT_FILE")
}

func TestTheBreakerSparesSethealthAndClosesByItself(t *testing.T) {
	t.Parallel()
	u := harness.NewSethealth(t)
	s := harness.Start(t, u.Env())
	require.NoError(t, u.SetNamed("down", 0))
	storm := func(turn int) {
		var wg sync.WaitGroup
		for i := range 50 {
			session := harness.Session(t, fmt.Sprintf("user-%d-%d", turn, i))
			wg.Go(func() {
				answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
				assert.NoError(t, err)
				assert.Equal(t, "upstream_unavailable", answer.Code())
			})
		}
		wg.Wait()
	}
	storm(0)
	assert.Equal(t, 1.0, s.Metric("tokenvend_upstream_breaker_open_total"))
	before, start := s.Metric("tokenvend_upstream_calls_total"), time.Now()
	storm(1)
	assert.LessOrEqual(t, s.Metric("tokenvend_upstream_calls_total")-before, 5*(1+time.Since(start).Seconds()/2), "trials alone")
	repair(u)
	harness.Eventually(t, "a token after the outage", func() bool { return s.Ask(harness.Session(t, "alice")).Status == 200 })
	assert.Zero(t, s.Metric("tokenvend_upstream_breaker_state"))
}

// TestASecretFileThatBlocksHoldsUpNobody: a FIFO that nobody writes to, as a hung mount would.
func TestASecretFileThatBlocksHoldsUpNobody(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte(harness.Secret), 0o600))
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env().With(harness.Env{
		"SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": file, "SETHEALTH_TIMEOUT": "2s", "SETHEALTH_ATTEMPT_TIMEOUT": "1s",
	}))
	require.NoError(t, os.Remove(file))
	require.NoError(t, exec.Command("mkfifo", file).Run())
	require.NoError(t, sethealth.SetNamed("refuse", 0))
	assert.Equal(t, "upstream_rejected", s.Ask(harness.Session(t, "alice")).Code()) // by the client's time-out at the latest
	assert.Zero(t, s.Stop())
}
