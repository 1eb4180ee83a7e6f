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

func wrongVariables() (names []string) {
	for _, problem := range setting.Each((&telemetry.Config{Level: "info", Format: "json"}).Validate()) {
		names = append(names, problem.Variable)
	}
	return names
}

func TestVariablesThatCannotWorkAreRefusedWithoutTheirValues(t *testing.T) {
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":                  "collector-canary:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":           "ftp://canary",
		"OTEL_EXPORTER_OTLP_PROTOCOL":                  "http/canary",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":           "canary",
		"OTEL_EXPORTER_OTLP_HEADERS":                   "canary without a value",
		"OTEL_EXPORTER_OTLP_TIMEOUT":                   "canary",
		"OTEL_EXPORTER_OTLP_COMPRESSION":               "canary",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":               "/nonexistent/canary",
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE":        "/nonexistent/canary",
		"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": "/nonexistent/canary",
		"OTEL_EXPORTER_OTLP_INSECURE":                  "true",
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":            "canary of words=1",
		"OTEL_RESOURCE_ATTRIBUTES":                     "canary",
		"OTEL_TRACES_SAMPLER":                          "canary",
		"OTEL_TRACES_SAMPLER_ARG":                      "10%canary",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:1")
			t.Setenv("OTEL_TRACES_SAMPLER", "traceidratio")
			t.Setenv(variable, value)
			_, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, slog.New(slog.DiscardHandler))
			require.ErrorContains(t, err, variable)
			assert.NotContains(t, err.Error(), "canary")
			assert.Equal(t, []string{variable}, wrongVariables())
		})
	}
}

func TestAnEndpointIsAURLOfAHostAndTheVariablesBesideItAgreeWithItsScheme(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	require.NoError(t, os.WriteFile(authorities, certificatePEM(server), 0o600))
	for name, row := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"http, insecure":             {map[string]string{endpoint: "http://c:4318", "OTEL_EXPORTER_OTLP_INSECURE": "True"}, nil},
		"https, not insecure":        {map[string]string{endpoint: "https://c", "OTEL_EXPORTER_OTLP_INSECURE": "false"}, nil},
		"the variable of traces":     {map[string]string{endpoint: "https://c", "OTEL_EXPORTER_OTLP_INSECURE": "true", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "false"}, nil},
		"http with TLS":              {map[string]string{endpoint: "http://c", "OTEL_EXPORTER_OTLP_INSECURE": "false"}, []string{"OTEL_EXPORTER_OTLP_INSECURE"}},
		"http with a certificate":    {map[string]string{endpoint: "http://c", "OTEL_EXPORTER_OTLP_CERTIFICATE": authorities}, []string{"OTEL_EXPORTER_OTLP_CERTIFICATE"}},
		"https with a certificate":   {map[string]string{endpoint: "https://c", "OTEL_EXPORTER_OTLP_CERTIFICATE": authorities}, nil},
		"a key without certificate":  {map[string]string{endpoint: "https://c", "OTEL_EXPORTER_OTLP_CLIENT_KEY": authorities}, []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"}},
		"no host":                    {map[string]string{endpoint: "http://:4318"}, []string{endpoint}},
		"a user, who would be lost":  {map[string]string{endpoint: "http://user:password@c:4318"}, []string{endpoint}},
		"an IPv6 address and spaces": {map[string]string{endpoint: " http://[::1]:4318 "}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for variable, value := range row.env {
				t.Setenv(variable, value)
			}
			assert.Equal(t, row.want, wrongVariables())
			tracing, err := telemetry.NewTracing(t.Context(), telemetry.Build{}, slog.New(slog.DiscardHandler))
			assert.Equal(t, row.want == nil, err == nil, "the library agrees: %v", err)
			require.NoError(t, tracing.Shutdown(t.Context()))
		})
	}
}

func certificatePEM(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

func TestEveryVariableThatCannotWorkIsNamedAtOnce(t *testing.T) {
	want := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_HEADERS",
		"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_TRACES_SAMPLER", "OTEL_RESOURCE_ATTRIBUTES",
	}
	for _, variable := range want {
		t.Setenv(variable, "nonsense")
	}
	assert.ElementsMatch(t, want, wrongVariables())

	t.Setenv("OTEL_SDK_DISABLED", "true")
	assert.Empty(t, wrongVariables(), "nobody reads them")
}

func TestTheSamplersOfTheSpecificationAreAccepted(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,team=a%20b,empty=")
	for _, row := range [][2]string{
		{"", ""},
		{"always_on", ""},
		{"always_off", "unused"},
		{"traceidratio", ""},
		{"traceidratio", "0.25"},
		{"parentbased_always_on", ""},
		{"parentbased_always_off", ""},
		{"parentbased_traceidratio", "0"},
		{" ParentBased_TraceIDRatio ", " 1 "},
	} {
		t.Setenv("OTEL_TRACES_SAMPLER", row[0])
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", row[1])
		assert.Empty(t, wrongVariables(), "%q", row)
	}
	for _, ratio := range []string{"-0.1", "1.1", "NaN", "a half"} {
		t.Setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
		assert.Len(t, wrongVariables(), 1, ratio)
	}
}
