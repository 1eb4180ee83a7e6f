package reliability_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

// promised is the time within which new content of a file is in use.
const promised = 10 * time.Second

// volume is a directory as the kubelet fills it: the files are links into ..data, which is a link to a
// directory with all of them, and is replaced in one step.
type volume struct {
	t     testing.TB
	dir   string
	turns int
}

func newVolume(t testing.TB, files map[string]string) *volume {
	v := &volume{t: t, dir: t.TempDir()}
	v.swap(files)
	for name := range files {
		require.NoError(t, os.Symlink(filepath.Join("..data", name), v.path(name)))
	}
	return v
}

func (v *volume) path(name string) string { return filepath.Join(v.dir, name) }

// swap makes files the whole content of the volume at one moment.
func (v *volume) swap(files map[string]string) {
	v.t.Helper()
	v.turns++
	turn := fmt.Sprintf("..2026_%d", v.turns)
	require.NoError(v.t, os.Mkdir(v.path(turn), 0o755))
	for name, content := range files {
		require.NoError(v.t, os.WriteFile(filepath.Join(v.dir, turn, name), []byte(content), 0o600))
	}
	old, _ := os.Readlink(v.path("..data"))
	require.NoError(v.t, os.Symlink(turn, v.path("..data_tmp")))
	require.NoError(v.t, os.Rename(v.path("..data_tmp"), v.path("..data")))
	if old != "" {
		require.NoError(v.t, os.RemoveAll(v.path(old)))
	}
}

// The second pair of the service account.
const (
	nextKey    = "canary-key-next-77c1"
	nextSecret = "canary-secret-next-d02f"
)

func pair(key, value string) map[string]string { return map[string]string{"key": key, "secret": value} }

// fromVolume is a service whose account comes from a volume.
func fromVolume(t *testing.T) (*harness.Upstream, *volume, *harness.Service) {
	u := harness.NewUpstream(t, false)
	v := newVolume(t, pair(harness.Key, harness.Secret+"\n"))
	s := harness.Start(t, u.Env().With(harness.Env{
		"SETHEALTH_KEY": "-", "SETHEALTH_SECRET": "-", "RATE_LIMIT": "off", "SETHEALTH_KEY_FILE": v.path("key"), "SETHEALTH_SECRET_FILE": v.path("secret"),
	}))
	return u, v, s
}

// lines counts the log lines with a message about a variable.
func lines(s *harness.Service, msg, variable string) (n int) {
	for _, line := range s.Log() {
		if line["msg"] == msg && line["variable"] == variable {
			n++
		}
	}
	return n
}

const (
	taken  = "file has new content, now in use"
	broken = "file cannot be used, the old content stays in use"
)

func TestANewPairInAVolumeIsTakenUpAndCachedTokensServeOn(t *testing.T) {
	t.Parallel()
	u, v, s := fromVolume(t)
	alice := hold(t, s, u, "alice")
	require.Equal(t, alice.token, s.Ask(alice.session).Token())

	v.swap(pair(nextKey, nextSecret+"\n"))
	harness.Eventually(t, promised, "both halves are in use", func() bool {
		return lines(s, taken, "SETHEALTH_KEY_FILE") == 1 && lines(s, taken, "SETHEALTH_SECRET_FILE") == 1
	})
	u.SetCredentials(secret.New(nextKey), secret.New(nextSecret))
	u.Emulator.Reset()
	assert.Equal(t, alice.token, s.Ask(alice.session).Token(), "cached tokens serve on")
	answer := s.Ask(harness.Session(t, "bob"))
	require.Equal(t, "ok", answer.Code(), answer.Body)
	assert.Equal(t, 1, u.Calls(), "the new pair was used at once, without a refusal first")

	assert.Equal(t, 1.0, s.Metric("tokenvend_file_reloads_total", `outcome="changed"`, `variable="SETHEALTH_KEY_FILE"`))
	assert.Equal(t, 1.0, s.Metric("tokenvend_file_reloads_total", `outcome="changed"`, `variable="SETHEALTH_SECRET_FILE"`))
	for _, line := range s.Log() {
		if line["msg"] == taken {
			assert.Regexp(t, `^[0-9a-f]{8,}$`, line["fingerprint"])
		}
	}
	assertGivesNothingAway(t, s)
	for _, value := range []string{nextKey, nextSecret} {
		assert.NotContains(t, s.Output(), value)
		assert.NotContains(t, s.Metrics(), value)
	}
}

func TestATypoInTheSecretIsNoticedByNobodyWhoHasAToken(t *testing.T) {
	t.Parallel()
	u, v, s := fromVolume(t)
	alice := hold(t, s, u, "alice")
	v.swap(pair(harness.Key, "a-typo"))
	harness.Eventually(t, promised, "the secret is in use", func() bool { return lines(s, taken, "SETHEALTH_SECRET_FILE") == 1 })
	assert.Equal(t, alice.token, s.Ask(alice.session).Token())
	assert.Equal(t, "upstream_rejected", s.Ask(harness.Session(t, "bob")).Code())
	assert.Equal(t, alice.token, s.Ask(alice.session).Token())
}

func TestARefusedPairIsReadAgainAtOnce(t *testing.T) {
	t.Parallel()
	u, v, s := fromVolume(t)
	alice := hold(t, s, u, "alice")
	for turn := range 5 { // faster than the files are followed
		key, value := fmt.Sprintf("%s-%d", nextKey, turn), fmt.Sprintf("%s-%d", nextSecret, turn)
		u.SetCredentials(secret.New(key), secret.New(value))
		v.swap(pair(key, value))
		u.Emulator.Reset()
		answer := s.Ask(harness.Session(t, fmt.Sprintf("user-%d", turn)))
		require.Equal(t, "ok", answer.Code(), answer.Body)
		assert.LessOrEqual(t, u.Calls(), 2)
	}
	assert.Equal(t, alice.token, s.Ask(alice.session).Token(), "cached tokens serve on")
	harness.Eventually(t, promised, "the change is logged, although it was a refusal that found it", func() bool {
		return lines(s, taken, "SETHEALTH_KEY_FILE") > 0 && lines(s, taken, "SETHEALTH_SECRET_FILE") > 0
	})
	assert.NotContains(t, s.Output(), nextSecret)
	assert.NotContains(t, s.Output(), nextKey)
}

func TestARefusalWithoutANewPairIsOneCallAndTheTokenInHandStaysGood(t *testing.T) {
	t.Parallel()
	u, _, s := fromVolume(t)
	alice := hold(t, s, u, "alice")
	u.SetCredentials(secret.New(nextKey), secret.New(nextSecret))
	u.Emulator.Reset()
	assert.Equal(t, "upstream_rejected", s.Ask(harness.Session(t, "bob")).Code())
	assert.Equal(t, 1, u.Calls())
	assert.Equal(t, alice.token, s.Ask(alice.session).Token())
}

func TestASessionSecretIsRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	const next = "canary-session-next-0123456789abcdef-0123"
	u := harness.NewUpstream(t, false)
	v := newVolume(t, map[string]string{"jwt": harness.SessionSecret})
	s := harness.Start(t, u.Env().With(harness.Env{"RATE_LIMIT": "off", "JWT_SECRET": "-", "JWT_SECRET_FILE": v.path("jwt")}))
	old, fresh := harness.Session(t, "alice"), harness.Sign(t, jose.HS256, []byte(next), harness.Claims("alice"))
	require.Equal(t, 200, s.Ask(old).Status)
	require.Equal(t, 401, s.Ask(fresh).Status)
	v.swap(map[string]string{"jwt": next})
	harness.Eventually(t, promised, "sessions of the new secret", func() bool { return s.Ask(fresh).Status == 200 })
	assert.Equal(t, 401, s.Ask(old).Status, "a remembered yes ends with its key")
	v.swap(map[string]string{"jwt": "short"})
	harness.Eventually(t, promised, "the unusable secret is told of", func() bool {
		return lines(s, broken, "JWT_SECRET_FILE") == 1
	})
	assert.NotZero(t, s.Metric("tokenvend_file_reloads_total", `outcome="failed"`, `variable="JWT_SECRET_FILE"`), "it is counted until it is fixed")
	assert.Equal(t, 1, lines(s, taken, "JWT_SECRET_FILE"), "the good one alone")
	assert.Equal(t, 200, s.Ask(fresh).Status)
	assert.NotContains(t, s.Output(), next)
}

func TestTheIntrospectionSecretIsRotatedWithoutARestart(t *testing.T) {
	t.Parallel()
	passwords := make(chan string, 1)
	passwords <- "canary-first"
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		good := <-passwords
		passwords <- good
		if _, password, _ := r.BasicAuth(); password != good {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"active":true,"sub":"alice"}`)
	}))
	defer endpoint.Close()
	u := harness.NewUpstream(t, false)
	v := newVolume(t, map[string]string{"password": "canary-first"})
	s := harness.Start(t, u.Env().With(harness.Env{
		"SESSION_CHECK": "introspection", "RATE_LIMIT": "off", "JWT_SECRET": "-", "JWT_AUDIENCE": "-", "INTROSPECTION_URL": endpoint.URL,
		"INTROSPECTION_CLIENT_ID": "tokenvend", "INTROSPECTION_CLIENT_SECRET_FILE": v.path("password"),
	}))
	require.Equal(t, 200, s.Ask("opaque").Status)
	<-passwords
	passwords <- "canary-second"
	answer := s.Ask("opaque")
	assert.Equal(t, "session_check_unavailable", answer.Code(), "the service's own credential is wrong, not the user's")
	v.swap(map[string]string{"password": "canary-second"})
	harness.Eventually(t, promised, "the new secret", func() bool { return s.Ask("opaque").Status == 200 })
	assert.NotContains(t, s.Output(), "canary-")
	assert.NotContains(t, s.Output(), "opaque")
}

func TestTheSwapUnderLoadIsNoticedByNobody(t *testing.T) {
	t.Parallel()
	u, v, s := fromVolume(t)
	stop, done := make(chan struct{}), make(chan []string)
	go func() {
		var failed []string
		for i := 0; ; i++ {
			select {
			case <-stop:
				done <- failed
				return
			default:
			}
			answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+harness.Session(t, fmt.Sprintf("user-%d", i)))
			if err != nil || answer.Status != 200 {
				failed = append(failed, fmt.Sprint(i, err, answer.Body))
			}
		}
	}()
	for turn := range 6 {
		key, value := fmt.Sprintf("%s-%d", nextKey, turn), fmt.Sprintf("%s-%d", nextSecret, turn)
		v.swap(pair(key, value))
		u.SetCredentials(secret.New(key), secret.New(value))
		time.Sleep(900 * time.Millisecond)
	}
	close(stop)
	assert.LessOrEqual(t, len(<-done), 6, "at most what fell into the moment between the swap and the change at Sethealth")
	assert.NotContains(t, strings.ToLower(s.Output()), faults.Echo)
}
