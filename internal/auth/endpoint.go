package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// endpoint is another system that a check asks over HTTP, and how it fared last. Redirects are never
// followed, no cookie is kept, and answers are bounded.
type endpoint struct {
	name   string // for logs and errors, such as "session endpoint"
	client *http.Client
	limit  int64 // of an answer's body, in bytes
	log    *slog.Logger
	last   atomic.Pointer[fared]
}

// fared is what came of the last question; why is empty if all was well.
type fared struct {
	at  time.Time
	why string
}

// answer is a whole answer; of one that is no success the body is left out.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newEndpoint(name string, limit int64, transport http.RoundTripper, log *slog.Logger) *endpoint {
	if transport == nil {
		transport = newTransport()
	}
	return &endpoint{name: name, limit: limit, log: log, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    3 * time.Second,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConns:           100,
		MaxIdleConnsPerHost:    100, // all of them go to one host
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// ask sends the request and reads the answer whole, if it is a success. The error is one of fixed words: what the other
// side sent never gets into it.
func (e *endpoint) ask(req *http.Request) (answer, error) {
	resp, err := e.client.Do(req)
	if err != nil {
		return answer{}, errors.New(reason(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 { // its status says it all
		// After a switch of protocols the body is the bare connection, which no time-out ends any more.
		if resp.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.CopyN(io.Discard, resp.Body, e.limit) // so that the connection can be used again
		}
		return answer{status: resp.StatusCode, header: resp.Header}, nil
	}
	if resp.ContentLength > e.limit {
		return answer{}, errors.New("answer too large")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, e.limit+1))
	if err != nil {
		return answer{}, errors.New(reason(err))
	}
	if int64(len(body)) > e.limit {
		return answer{}, errors.New("answer too large")
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// settle notes how a question fared, for [endpoint.state], and logs the change from well to ill and
// back. A question whose asker left says nothing.
func (e *endpoint) settle(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	now := &fared{at: time.Now()}
	if err != nil {
		now.why = err.Error()
	}
	before := e.last.Swap(now)
	switch wasWell := before == nil || before.why == ""; {
	case wasWell && now.why != "":
		e.log.Warn("session check endpoint fails", "endpoint", e.name, "error", now.why)
	case !wasWell && now.why == "":
		e.log.Info("session check endpoint answers again", "endpoint", e.name)
	}
}

// state is one line for the operator.
func (e *endpoint) state() string {
	last := e.last.Load()
	if last == nil {
		return "not asked yet"
	}
	age := time.Since(last.at).Round(time.Second)
	if last.why != "" {
		return fmt.Sprintf("failed %s ago: %s", age, last.why)
	}
	return fmt.Sprintf("ok, last answer %s ago", age)
}

// reason puts a failed exchange into fixed words, because errors of net/http quote what they read.
func reason(err error) string {
	var timeout net.Error
	var dns *net.DNSError
	var certificate *tls.CertificateVerificationError
	var dial *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return "the caller left"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.As(err, &dns):
		return "its host name cannot be resolved"
	case errors.As(err, &certificate):
		return "its TLS certificate is not trusted"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dial) && dial.Op == "dial":
		return "no connection"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the answer broke off"
	default:
		return "no valid HTTP answer"
	}
}
