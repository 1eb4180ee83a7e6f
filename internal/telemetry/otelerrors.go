package telemetry

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// reportTo sends what OpenTelemetry complains of to logger. The SDK knows only process-wide hooks for
// that, and without them it prints to standard error, header values included.
func reportTo(logger *slog.Logger) {
	r := &reporter{log: logger}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(r.exportFailed))
	otel.SetLogger(logr.New(r))
}

// reporter logs failed exports at most once in a minute, and never in another system's words.
type reporter struct {
	log *slog.Logger

	mu     sync.Mutex
	last   time.Time
	silent int // failures since the last line
}

const reportEvery = time.Minute

func (r *reporter) exportFailed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.last.IsZero() || now.Sub(r.last) >= reportEvery {
		r.log.Warn("tracing failed", "reason", reason(err), "more_since_last", r.silent)
		r.last, r.silent = now, 0
		return
	}
	r.silent++
}

// reason is what went wrong, in fixed words or those of Go's own network errors. The text of other errors
// may quote what a peer sent.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Error()
	}
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return untrusted.Error()
	}
	for _, ours := range []error{errRedirected, errPartly} {
		if errors.Is(err, ours) {
			return ours.Error()
		}
	}
	if status, ok := errors.AsType[statusError](err); ok {
		return status.Error()
	}
	return "the collector cannot be asked"
}

// The rest makes it a logr.LogSink, for complaints about variables. Messages are the library's constants;
// the values beside them may hold credentials and are dropped.

// Init implements logr.LogSink.
func (r *reporter) Init(logr.RuntimeInfo) {}

// Enabled implements logr.LogSink: errors are not asked for their level.
func (r *reporter) Enabled(int) bool { return false }

// Info implements logr.LogSink.
func (r *reporter) Info(int, string, ...any) {}

// Error implements logr.LogSink.
func (r *reporter) Error(_ error, message string, _ ...any) {
	r.log.Warn("an OTEL_ variable is not understood", "reason", message)
}

// WithValues implements logr.LogSink.
func (r *reporter) WithValues(...any) logr.LogSink { return r }

// WithName implements logr.LogSink.
func (r *reporter) WithName(string) logr.LogSink { return r }
