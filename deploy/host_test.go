package deploy_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

type compose struct {
	Services map[string]struct {
		Image           string
		Build           struct{ Context, Dockerfile string }
		ReadOnly        bool `yaml:"read_only"`
		CapDrop         []string
		NetworkMode     string `yaml:"network_mode"`
		Ports           []string
		Volumes         []string
		Environment     map[string]string
		StopGracePeriod time.Duration `yaml:"stop_grace_period"`
	}
}

func TestComposeNamesExistingFilesAndValidVariables(t *testing.T) {
	all := documents[compose](t, read(t, "compose.yaml"))[0].Services
	require.Len(t, all, 5)
	for name, s := range all {
		for _, p := range s.Ports {
			assert.True(t, strings.HasPrefix(p, "127.0.0.1:"), "%s is published beyond this machine", name)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			assert.FileExists(t, strings.TrimSuffix(source, "/")+map[string]string{
				"./prometheus": "/prometheus.yaml", "./grafana/provisioning": "/dashboards/tokenvend.yaml",
			}[source])
		}
		if s.Build.Dockerfile != "" {
			assert.FileExists(t, s.Build.Context+"/"+s.Build.Dockerfile)
		}
	}
	vend := all["tokenvend"]
	assert.True(t, vend.ReadOnly)
	accepted(t, vend.Environment)
	assert.Less(t, duration(t, vend.Environment, "SHUTDOWN_DELAY")+duration(t, vend.Environment, "SHUTDOWN_TIMEOUT"), vend.StopGracePeriod)
	assert.Equal(t, "service:tokenvend", all["emulator"].NetworkMode, "http:// is allowed for loopback only")
	assert.Contains(t, read(t, "prometheus/prometheus.yaml"), `"tokenvend:8081"`)
}

func TestTheDemoSessionIsValidForCompose(t *testing.T) {
	testkit.Program(t, "openssl")
	env := documents[compose](t, read(t, "compose.yaml"))[0].Services["tokenvend"].Environment
	session, err := jwt.ParseSigned(strings.TrimSpace(run(t, "./demo-session.sh", "alice")), []jose.SignatureAlgorithm{jose.HS256})
	require.NoError(t, err)
	var claims jwt.Claims
	require.NoError(t, session.Claims([]byte(env["JWT_SECRET"]), &claims))
	require.NoError(t, claims.Validate(jwt.Expected{Subject: "alice", AnyAudience: jwt.Audience{env["JWT_AUDIENCE"]}, Time: time.Now()}))
	assert.WithinDuration(t, time.Now().Add(time.Hour), claims.Expiry.Time(), time.Minute)
}

func TestSystemdAcceptsTheUnitAndRatesItSecure(t *testing.T) {
	unit := t.TempDir() + "/tokenvend.service"
	write(t, unit, strings.Replace(read(t, "systemd/tokenvend.service"), "/usr/local/bin/tokenvend serve", "/bin/true", 1))
	assert.Empty(t, run(t, "systemd-analyze", "verify", unit))
	run(t, "systemd-analyze", "security", "--offline=yes", "--threshold=20", unit)
}

func TestTheUnitWaitsForTheDrainAlwaysRestartsAndDumpsNoCore(t *testing.T) {
	unit := read(t, "systemd/tokenvend.service")
	for _, line := range []string{
		"Restart=always", "StartLimitIntervalSec=0", "RestartPreventExitStatus=2", "LimitCORE=0", "TimeoutStopSec=45s",
	} {
		assert.Contains(t, unit, "\n"+line+"\n")
	}
	assert.Less(t, max(duration(t, nil, "SHUTDOWN_DELAY"), longDelay)+duration(t, nil, "SHUTDOWN_TIMEOUT"), 45*time.Second)
}
