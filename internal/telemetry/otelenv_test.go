package telemetry_test

import (
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// wrongVariables returns the variables that Validate reports.
func wrongVariables(t *testing.T) (names []string) {
	t.Helper()
	err := (&telemetry.Config{Level: "info", Format: "json"}).Validate()
	for _, problem := range setting.Each(err) {
		names = append(names, problem.Variable)
		assert.NotContains(t, problem.Fault, "canary")
	}
	return names
}

func TestAnInvalidVariableIsRefusedWithoutItsValue(t *testing.T) {
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":           "collector-canary:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":    "ftp://canary",
		"OTEL_EXPORTER_OTLP_PROTOCOL":           "http/canary",
		"OTEL_EXPORTER_OTLP_HEADERS":            "canary without a value",
		"OTEL_EXPORTER_OTLP_TIMEOUT":            "canary",
		"OTEL_EXPORTER_OTLP_COMPRESSION":        "canary",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":        "/nonexistent/canary",
		"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/dev/zero",
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/nonexistent/canary",
		"OTEL_EXPORTER_OTLP_INSECURE":           "true",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":     "canary of words=1",
		"OTEL_RESOURCE_ATTRIBUTES":              "canary",
		"OTEL_TRACES_SAMPLER":                   "canary",
		"OTEL_TRACES_SAMPLER_ARG":               "10%canary",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
			t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
			t.Setenv(variable, value)
			assert.Equal(t, []string{variable}, wrongVariables(t))
			t.Setenv("OTEL_SDK_DISABLED", "true")
			assert.Empty(t, wrongVariables(t), "it is not read")
		})
	}
}

func TestVariablesAreValidTogether(t *testing.T) {
	const (
		endpoint, insecure, certificate = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_CERTIFICATE"
		sampler, arg                    = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
	)
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	require.NoError(t, os.WriteFile(authorities, certificatePEM(server), 0o600))
	for name, row := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"http, insecure":             {map[string]string{endpoint: "http://c:4318", insecure: "True"}, nil},
		"https, not insecure":        {map[string]string{endpoint: "https://c", insecure: "false"}, nil},
		"the variable of traces":     {map[string]string{endpoint: "https://c", insecure: "true", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"}, nil},
		"http with TLS":              {map[string]string{endpoint: "http://c", insecure: "false"}, []string{insecure}},
		"http with a certificate":    {map[string]string{endpoint: "http://c", certificate: authorities}, []string{certificate}},
		"https with a certificate":   {map[string]string{endpoint: "https://c", certificate: authorities}, nil},
		"a key without certificate":  {map[string]string{endpoint: "https://c", "OTEL_EXPORTER_OTLP_CLIENT_KEY": authorities}, []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"}},
		"no host":                    {map[string]string{endpoint: "http://:4318"}, []string{endpoint}},
		"a user, which is not sent":  {map[string]string{endpoint: "http://user:canary@c:4318"}, []string{endpoint}},
		"an IPv6 address and spaces": {map[string]string{endpoint: " http://[::1]:4318 "}, nil},
		"resource attributes":        {map[string]string{endpoint: "http://c", "OTEL_RESOURCE_ATTRIBUTES": "a.b=prod,team=a%20b,empty="}, nil},
		"a ratio with spaces":        {map[string]string{endpoint: "http://c", sampler: " ParentBased_TraceIDRatio ", arg: " 1 "}, nil},
		"a ratio left out":           {map[string]string{endpoint: "http://c", sampler: "traceidratio"}, nil},
		"a ratio that is not used":   {map[string]string{endpoint: "http://c", sampler: "parentbased_always_off", arg: "x"}, nil},
		"a negative ratio":           {map[string]string{endpoint: "http://c", sampler: "parentbased_traceidratio", arg: "-0.1"}, []string{arg}},
		"a ratio over one":           {map[string]string{endpoint: "http://c", sampler: "traceidratio", arg: "1.1"}, []string{arg}},
		"a ratio of NaN":             {map[string]string{endpoint: "http://c", sampler: "traceidratio", arg: "NaN"}, []string{arg}},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range row.env {
				t.Setenv(variable, value)
			}
			assert.Equal(t, row.want, wrongVariables(t))
			if row.want == nil {
				tracing, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, slog.New(slog.DiscardHandler))
				require.NoError(t, err, "the library agrees")
				require.NoError(t, tracing.Shutdown(t.Context()))
			}
		})
	}
}

func certificatePEM(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
