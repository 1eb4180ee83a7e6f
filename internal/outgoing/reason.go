package outgoing

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
)

// Explain describes err in fixed words and never quotes it: errors of net/http may contain what a server sent, and
// errors of x509 the content of a certificate. The reason for an unknown error is fallback.
func Explain(ctx context.Context, err error, fallback string) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Reason: "the caller left"}
	}
	if timeout, ok := errors.AsType[net.Error](err); ctx.Err() != nil || ok && timeout.Timeout() {
		return &Error{Reason: "no answer in time", Timeout: true}
	}
	reason := cmp.Or(reasonOf(err), fallback)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "proxyconnect" {
		reason = "the proxy of HTTPS_PROXY cannot be reached: " + reason
	}
	return &Error{Reason: reason}
}

func reasonOf(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "DNS: no such host"
		}
		return "DNS: the name cannot be resolved"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "TLS certificate has expired, or this machine's clock is wrong"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "TLS certificate is for another host"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "TLS certificate is not trusted (SSL_CERT_FILE names more authorities)"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the server does not speak TLS"
	}
	// This is how crypto/tls wraps an alert of either side.
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return "the TLS handshake failed"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no route to the host"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the answer was cut short"
	case errors.Is(err, io.EOF):
		return "the connection was closed without an answer"
	default:
		return ""
	}
}
