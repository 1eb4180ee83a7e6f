package telemetry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/setting"
)

// The library goes on with defaults, in silence, where an OTEL_ variable cannot be understood. These are the
// variables that decide where spans go, and whether.

// exporterVariable is a variable of the exporter: that for traces overrides that for all signals.
func exporterVariable(name string) (variable, value string) {
	for _, variable = range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
		if value = strings.TrimSpace(os.Getenv(variable)); value != "" {
			return variable, value
		}
	}
	return variable, ""
}

func tracingWanted() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	_, endpoint := exporterVariable("ENDPOINT")
	return endpoint != ""
}

func protocol() string {
	_, value := exporterVariable("PROTOCOL")
	return cmp.Or(value, "http/protobuf")
}

func exportTimeout() time.Duration {
	_, value := exporterVariable("TIMEOUT")
	milliseconds, err := strconv.Atoi(cmp.Or(value, "10000"))
	if err != nil || milliseconds <= 0 {
		return 0
	}
	return time.Duration(milliseconds) * time.Millisecond
}

// checkTracing reports every OTEL_ variable that cannot work. No value is shown.
func checkTracing(p *setting.Problems) {
	if !tracingWanted() {
		return
	}
	variable, endpoint := exporterVariable("ENDPOINT")
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		p.Add(variable, "must be an http:// or https:// URL")
	}
	variable, _ = exporterVariable("PROTOCOL")
	p.OneOf(variable, protocol(), "http/protobuf", "grpc")
	variable, compression := exporterVariable("COMPRESSION")
	p.OneOf(variable, cmp.Or(compression, "none"), "none", "gzip")
	if variable, headers := exporterVariable("HEADERS"); headers != "" && !arePairs(headers, true) {
		p.Add(variable, mustBePairs)
	}
	if variable, _ := exporterVariable("TIMEOUT"); exportTimeout() == 0 {
		p.Add(variable, "must be a number of milliseconds")
	}
	if _, err := exporterTLS(); err != nil {
		variable, _ := exporterVariable("CERTIFICATE")
		p.Add(variable, "must name a PEM file of certificates, as OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _KEY must")
	}
	if attributes := os.Getenv("OTEL_RESOURCE_ATTRIBUTES"); attributes != "" && !arePairs(attributes, false) {
		p.Add("OTEL_RESOURCE_ATTRIBUTES", mustBePairs)
	}
	checkSampler(p)
}

func checkSampler(p *setting.Problems) {
	ratio := false
	switch strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER"))) {
	case "", "always_on", "always_off", "parentbased_always_on", "parentbased_always_off":
	case "traceidratio", "parentbased_traceidratio":
		ratio = true
	default:
		p.Add("OTEL_TRACES_SAMPLER", "must be always_on, always_off or traceidratio, or one of these after parentbased_")
	}
	if arg := strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER_ARG")); ratio && arg != "" {
		if share, err := strconv.ParseFloat(arg, 64); err != nil || !(share >= 0 && share <= 1) {
			p.Add("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1")
		}
	}
}

const mustBePairs = "must be name=value pairs, comma separated, values percent-encoded"

// arePairs checks a list such as that of OTEL_EXPORTER_OTLP_HEADERS (W3C Baggage, without its properties).
func arePairs(list string, headers bool) bool {
	for one := range strings.SplitSeq(list, ",") {
		name, value, found := strings.Cut(one, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !found || name == "" || err != nil || headers && !(httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value)) {
			return false
		}
	}
	return true
}

// exporterTLS is the authorities and the client's certificate of the exporter.
func exporterTLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if _, file := exporterVariable("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("no certificates")
		}
	}
	_, chain := exporterVariable("CLIENT_CERTIFICATE")
	_, key := exporterVariable("CLIENT_KEY")
	if chain != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(chain, key)
		if err != nil {
			return nil, errors.New("no client certificate")
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
