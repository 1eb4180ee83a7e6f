// Package reliability_test tests the built binary against docs/reliability.md.
package reliability_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// TestEveryFaultIsAnsweredAsThePageSays plays each fault to a user without a token and to one whose token is due for
// replacement. Faults that hang get a service with short time-outs: on a busy machine, others could run into those.
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

// eventually retries until it gets a token: on a busy machine a request may run into a short time-out.
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

// TestASecretFileThatBlocksHoldsUpNobody uses a FIFO without a writer, which blocks like a hung mount.
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
	assert.Equal(t, "upstream_rejected", s.Ask(harness.Session(t, "alice")).Code())
	assert.Zero(t, s.Stop())
}
