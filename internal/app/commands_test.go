package app_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
)

func TestAStandardErrorThatStallsDoesNotKeepACommandFromEnding(t *testing.T) {
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

func TestAProbableMisspellingIsToldBesideWhatIsMissing(t *testing.T) {
	environment(t, env{"CORS_ALLOWED_ORIGINS": "-", "CORS_ALLOWED_ORIGIN": "https://canary.example.com"})
	for _, command := range []string{"serve", "check"} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, app.Main(t.Context(), []string{command}, build, &stdout, &stderr))
		assert.Empty(t, stdout.String())
		assert.Regexp(t, "^CORS_ALLOWED_ORIGINS is required .*\nwarning CORS_ALLOWED_ORIGIN is not a variable of tokenvend; "+
			"CORS_ALLOWED_ORIGINS was probably meant\n$", stderr.String())
	}
}
