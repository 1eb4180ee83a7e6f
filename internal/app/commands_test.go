package app_test

import (
	"bytes"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

func TestACommandEndsWhileStandardErrorStalls(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, row := range map[string]struct {
		env     env
		command string
		code    int
	}{
		"wrong configuration": {env{"SETHEALTH_KEY": "-"}, "serve", 2},
		"failure to serve":    {env{"LISTEN_ADDR": taken.Addr().String()}, "serve", 1},
		"wrong command":       {nil, "vend", 2},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, row.env)
			synctest.Test(t, func(t *testing.T) {
				stalled, stderr := io.Pipe()
				defer stalled.Close()
				start := time.Now()
				assert.Equal(t, row.code, app.Main(t.Context(), []string{row.command}, build, io.Discard, stderr))
				assert.LessOrEqual(t, time.Since(start), time.Second)
			})
		})
	}
}

func TestAProbableMisspellingIsReportedBesideWhatIsMissing(t *testing.T) {
	environment(t, env{"CORS_ALLOWED_ORIGINS": "-", "CORS_ALLOWED_ORIGIN": "https://canary.example.com"})
	for _, command := range []string{"serve", "check"} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, app.Main(t.Context(), []string{command}, build, &stdout, &stderr))
		assert.Empty(t, stdout.String())
		assert.Regexp(t, "^CORS_ALLOWED_ORIGINS is required .*\nwarning CORS_ALLOWED_ORIGIN is not a variable of tokenvend; "+
			"CORS_ALLOWED_ORIGINS was probably meant\n$", stderr.String())
	}
}

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	upstream := httptest.NewServer(emulator.New(emulator.Options{Key: secret.New("k"), Secret: secret.New("s")}))
	defer upstream.Close()
	environment(t, env{"SETHEALTH_URL": upstream.URL})
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	require.NoError(t, err)
	defer full.Close()
	for _, command := range []string{"token", "help", "version"} {
		var stderr bytes.Buffer
		assert.Equal(t, 1, app.Main(t.Context(), []string{command}, build, full, &stderr), command)
		assert.Equal(t, "tokenvend: write /dev/full: no space left on device\n", stderr.String())
	}
}
