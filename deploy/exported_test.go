package deploy_test

import (
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Metrics that only other configurations have: docs/metrics.md says so.
var elsewhere = map[string]bool{"tokenvend_tls_certificate_expiry_timestamp_seconds": true}

func TestThePageOfMetricsListsWhatTheProgramExports(t *testing.T) {
	admin := "127.0.0.1:" + testkit.FreePort(t)
	secret := t.TempDir() + "/secret"
	write(t, secret, "a secret of thirty-two bytes and more")
	binary, err := tokenvend()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, "serve")
	cmd.Env = []string{
		"SETHEALTH_KEY=key", "SETHEALTH_SECRET_FILE=" + secret, "CORS_ALLOWED_ORIGINS=none", "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=" + admin,
		"SESSION_CHECK=jwt,forward", "JWT_JWKS_URL=http://127.0.0.1:1/keys", "JWT_AUDIENCE=tokenvend", "FORWARD_URL=http://127.0.0.1:1/session",
		"FORWARD_CACHE_TTL=1s", "TOKEN_CACHE=redis", "REDIS_URL=redis://127.0.0.1:1", "SHUTDOWN_DELAY=0s",
	}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var page string
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + admin + "/metrics")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		page = string(body)
		return err == nil && resp.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)

	known := documented(t)
	exported := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (tokenvend_\S+) (\w+)$`).FindAllStringSubmatch(page, -1) {
		exported[m[1]] = true
		assert.Equal(t, known[m[1]].kind, m[2], m[1])
	}
	for name := range known {
		if strings.HasPrefix(name, "tokenvend_") && !elsewhere[name] {
			assert.True(t, exported[name], "%s is not exported", name)
		}
	}
}
