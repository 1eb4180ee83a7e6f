package sethealth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// failure is why an attempt brought no token. Its text is the class, a reason from this package's own
// words and a status code: nothing that came over the wire, and no address.
type failure struct {
	class      error // one of the package's sentinels
	reason     string
	retry      bool          // another attempt may help
	retryAfter time.Duration // and is not welcome before
	refused    bool          // it is the service account that was refused
	verdict    verdict       // for the breaker
}

func (f *failure) Error() string { return f.class.Error() + ": " + f.reason }

func (f *failure) Unwrap() error { return f.class }

func (f *failure) outcome() outcome {
	switch f.class {
	case ErrRejected:
		return outcomeRejected
	case ErrInvalid:
		return outcomeInvalid
	case ErrTimeout:
		return outcomeTimeout
	default:
		return outcomeUnavailable
	}
}

// heldBack is the answer while the breaker is open.
func heldBack() *failure {
	return &failure{class: ErrUnavailable, reason: "held back after repeated failures"}
}

// unusable is a 200 without a token; reason is one of this package's.
func unusable(reason error) *failure {
	return &failure{class: ErrInvalid, reason: "status 200, " + reason.Error(), verdict: alive}
}

// refusal is what an answer other than 200 means. This is the whole table.
func refusal(resp *http.Response) *failure {
	f := &failure{reason: "status " + strconv.Itoa(resp.StatusCode), verdict: alive}
	switch status := resp.StatusCode; {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		f.class, f.refused = ErrRejected, true
	case status == http.StatusTooManyRequests: // well, but no reason to call more
		f.class, f.retry, f.verdict = ErrUnavailable, true, noVerdict
		f.retryAfter, _ = RetryAfter(resp.Header, time.Now())
	case status == http.StatusInternalServerError, status == http.StatusBadGateway,
		status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		f.class, f.retry, f.verdict = ErrUnavailable, true, failed
		f.retryAfter, _ = RetryAfter(resp.Header, time.Now())
	case status >= 400 && status < 500:
		f.class = ErrRejected
	case status >= 500 && status < 600:
		f.class, f.verdict = ErrUnavailable, failed
	default: // a redirect, or a success that is not the one agreed on
		f.class = ErrInvalid
	}
	return f
}

// connectionFault names what went wrong with a connection without quoting err: net/http puts what a
// server sent into some of its errors, and x509 what stands in a certificate.
func connectionFault(err error) string {
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "the host name cannot be resolved"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the server's certificate has expired, or this machine's clock is wrong"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the server's certificate is for another host"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the server's certificate is not trusted"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the server does not speak TLS"
	}
	// crypto/tls wraps an alert of either side in these words.
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return "the TLS handshake failed"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to the host"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the answer was cut short"
	case errors.Is(err, io.EOF):
		return "the connection was closed without an answer"
	default:
		return "the connection failed"
	}
}
