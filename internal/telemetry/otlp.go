package telemetry

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/proto"
)

// exporter sends spans by OTLP over HTTP, as protobuf (OTLP specification, section OTLP/HTTP). It is
// written here because the official one links gRPC and its gateway, 10.9 of then 26.5 MB of binary, for
// this one POST. Spans that the collector does not take are lost and told of; they are not sent again.
type exporter struct {
	url    string
	header http.Header
	gzip   bool
	client *http.Client
}

// statusError is an answer other than success. The collector's own words are not in it.
type statusError int

func (e statusError) Error() string { return "the collector answered " + strconv.Itoa(int(e)) }

var (
	errRedirected = errors.New("the collector redirects")
	errPartly     = errors.New("the collector did not take all spans")
)

// VariableError is a variable that cannot work. It never holds the value.
type VariableError struct{ Variable, Must string }

func (e VariableError) Error() string { return "telemetry: " + e.Variable + " " + e.Must }

// setting is a variable of the exporter: that for traces counts more than that for all signals.
func setting(name string) (variable, value string) {
	for _, variable = range []string{"OTEL_EXPORTER_OTLP_TRACES_" + name, "OTEL_EXPORTER_OTLP_" + name} {
		if value = strings.TrimSpace(os.Getenv(variable)); value != "" {
			return variable, value
		}
	}
	return variable, ""
}

// variableErrors are all the variables that cannot work, to be told at once.
type variableErrors []VariableError

func (w *variableErrors) unless(ok bool, variable, must string) {
	if !ok {
		*w = append(*w, VariableError{variable, must})
	}
}

// newExporter reads the OTEL_EXPORTER_OTLP_ variables. What is wrong names variables and never values.
func newExporter() (e *exporter, wrong variableErrors) {
	e = &exporter{header: http.Header{"Content-Type": {"application/x-protobuf"}}}
	variable, endpoint := setting("ENDPOINT")
	u, err := url.Parse(endpoint)
	ok := err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
	wrong.unless(ok, variable, "must be an http:// or https:// URL")
	if ok && !strings.Contains(variable, "TRACES") {
		u = u.JoinPath("v1/traces")
	}
	if ok {
		e.url = u.String()
	}
	variable, protocol := setting("PROTOCOL")
	wrong.unless(protocol == "" || protocol == "http/protobuf", variable, "must be http/protobuf")
	variable, compression := setting("COMPRESSION")
	e.gzip = compression == "gzip"
	wrong.unless(e.gzip || compression == "" || compression == "none", variable, "must be gzip or none")
	if e.gzip {
		e.header.Set("Content-Encoding", "gzip")
	}
	e.readHeaders(&wrong)
	e.dial(&wrong)
	return e, wrong
}

func (e *exporter) readHeaders(wrong *variableErrors) {
	variable, headers := setting("HEADERS")
	if headers == "" {
		return
	}
	all, ok := pairs(headers)
	for _, pair := range all {
		ok = ok && httpguts.ValidHeaderFieldName(pair.name) && httpguts.ValidHeaderFieldValue(pair.value)
		e.header.Set(pair.name, pair.value)
	}
	wrong.unless(ok, variable, mustBePairs)
}

const mustBePairs = "must be name=value pairs, comma separated, values percent-encoded"

type pair struct{ name, value string }

// pairs reads a list such as that of OTEL_EXPORTER_OTLP_HEADERS (W3C Baggage, without its properties).
func pairs(list string) (all []pair, ok bool) {
	for one := range strings.SplitSeq(list, ",") {
		name, value, found := strings.Cut(one, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !found || name == "" || err != nil {
			return nil, false
		}
		all = append(all, pair{name, value})
	}
	return all, true
}

func (e *exporter) dial(wrong *variableErrors) {
	variable, timeout := setting("TIMEOUT")
	milliseconds, err := strconv.Atoi(cmp.Or(timeout, "10000"))
	wrong.unless(err == nil && milliseconds > 0, variable, "must be a number of milliseconds")
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if variable, file := setting("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		config.RootCAs = x509.NewCertPool()
		wrong.unless(err == nil && config.RootCAs.AppendCertsFromPEM(pem), variable, "must name a PEM file of certificates")
	}
	e.client = &http.Client{
		Timeout:   time.Duration(milliseconds) * time.Millisecond,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, IdleConnTimeout: time.Minute},
		// The headers may hold a credential, which is for the host that was named.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirected },
	}
}

// emptyAnswer is the length of an answer that holds an empty partial_success: full success looks like that,
// or like no bytes at all.
const emptyAnswer = 2

// ExportSpans implements sdktrace.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := proto.Marshal(encode(spans))
	if err != nil {
		return fmt.Errorf("telemetry: encoding spans: %w", err)
	}
	if e.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // into memory
		_ = w.Close()
		body = packed.Bytes()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	req.Header = e.header.Clone()
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return statusError(resp.StatusCode)
	case err == nil && len(answer) > emptyAnswer && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-protobuf"):
		return errPartly
	default:
		return nil
	}
}

// Shutdown implements sdktrace.SpanExporter.
func (e *exporter) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}
