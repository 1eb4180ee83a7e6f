package telemetry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// The library silently uses a default where it cannot parse an OTEL_ variable. This file checks the variables
// that decide whether and where spans are sent.

// exporterVariable returns a variable of the exporter. The one for traces overrides the one for all signals.
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

// checkTracing reports every invalid OTEL_ variable, without its value.
func checkTracing(p *setting.Problems) {
	if !tracingWanted() {
		return
	}
	checkEndpoint(p)
	variable, _ := exporterVariable("PROTOCOL")
	p.OneOf(variable, protocol(), "http/protobuf", "grpc")
	variable, compression := exporterVariable("COMPRESSION")
	p.OneOf(variable, cmp.Or(compression, "none"), "none", "gzip")
	if variable, headers := exporterVariable("HEADERS"); headers != "" && !arePairs(headers, true) {
		p.Add(variable, mustBePairs)
	}
	if variable, _ := exporterVariable("TIMEOUT"); exportTimeout() == 0 {
		p.Add(variable, "must be a number of milliseconds")
	}
	exporterTLS(p)
	if attributes := os.Getenv("OTEL_RESOURCE_ATTRIBUTES"); attributes != "" && !arePairs(attributes, false) {
		p.Add("OTEL_RESOURCE_ATTRIBUTES", mustBePairs)
	}
	checkSampler(p)
}

// checkEndpoint requires the other variables to agree with the URL's scheme: the library lets
// OTEL_EXPORTER_OTLP_INSECURE override https://, and would send the headers in plaintext.
func checkEndpoint(p *setting.Problems) {
	variable, endpoint := exporterVariable("ENDPOINT")
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		p.Add(variable, "must be an http:// or https:// URL without a user")
		return
	}
	plain := u.Scheme == "http"
	if variable, insecure := exporterVariable("INSECURE"); insecure != "" && strings.EqualFold(insecure, "true") != plain {
		p.Add(variable, "must be unset or agree with the endpoint: true for http://, false for https://")
	}
	for _, name := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE"} {
		if variable, file := exporterVariable(name); plain && file != "" {
			p.Add(variable, "must be unset for an http:// endpoint")
		}
	}
}

func checkSampler(p *setting.Problems) {
	sampler := strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER")))
	p.OneOf("OTEL_TRACES_SAMPLER", cmp.Or(sampler, "always_on"), "always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	arg := strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER_ARG"))
	share, err := strconv.ParseFloat(cmp.Or(arg, "1"), 64)
	if strings.HasSuffix(sampler, "traceidratio") && (err != nil || !(share >= 0 && share <= 1)) {
		p.Add("OTEL_TRACES_SAMPLER_ARG", "must be a number from 0 to 1")
	}
}

const mustBePairs = "must be name=value pairs, comma separated, values percent-encoded"

// arePairs reports whether list consists of pairs as in OTEL_EXPORTER_OTLP_HEADERS (W3C Baggage, without its
// properties). If headers is set, each pair must be a valid header.
func arePairs(list string, headers bool) bool {
	for pair := range strings.SplitSeq(list, ",") {
		name, value, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !found || name == "" || err != nil || headers && !(httpguts.ValidHeaderFieldName(name) && httpguts.ValidHeaderFieldValue(value)) {
			return false
		}
	}
	return true
}

// exporterTLS returns the exporter's TLS configuration: the authorities and the client certificate.
func exporterTLS(p *setting.Problems) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if variable, file := exporterVariable("CERTIFICATE"); file != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content(variable, file)) {
			p.Add(variable, "must name a PEM file of certificates")
		}
	}
	variable, chain := exporterVariable("CLIENT_CERTIFICATE")
	keyVariable, key := exporterVariable("CLIENT_KEY")
	if chain != "" || key != "" {
		pair, err := tls.X509KeyPair(content(variable, chain), content(keyVariable, key))
		if err != nil {
			p.Add(variable, "must name a PEM file of certificates, and %s the file of their key", keyVariable)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// content returns the content of a file, empty if it cannot be read. Files without end and files that block
// do not hold up the caller.
func content(variable, path string) []byte {
	file, _ := secret.TextFile(variable, path)
	return []byte(file.Get().Reveal())
}
