package sethealth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

// authority signs the test servers' certificates. The client has no option to trust it, on purpose, so
// that it is made one of the system's roots before the first handshake.
var authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "roots")
	if err != nil {
		log.Fatal(err)
	}
	if authority.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		log.Fatal(err)
	}
	authority.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, authority.cert, authority.cert, authority.key.Public(), authority.key)
	if err != nil {
		log.Fatal(err)
	}
	file := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		log.Fatal(err)
	}
	os.Setenv("SSL_CERT_FILE", file)
	os.Setenv("SSL_CERT_DIR", dir)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

var classes = map[string]error{
	"upstream_rejected":    sethealth.ErrRejected,
	"upstream_invalid":     sethealth.ErrInvalid,
	"upstream_unavailable": sethealth.ErrUnavailable,
	timedOut:               sethealth.ErrTimeout,
}

func newEmulator() *emulator.Emulator {
	return emulator.New(emulator.Options{Key: secret.New("key-1"), Secret: secret.New("secret-1")})
}

// towards are options for a server on the real network. Attempts are short only where they are bound to
// time out, so that a busy machine does not make others do so.
func towards(t testing.TB, url string, code string) sethealth.Options {
	o := options(t)
	o.URL = url
	if code == timedOut {
		o.AttemptTimeout, o.Timeout = 800*time.Millisecond, 6*time.Second // a busy machine shakes hands in that
	}
	return o
}

const timedOut = "upstream_timeout"

func assertGivesNothingAway(t *testing.T, err error) {
	t.Helper()
	for _, never := range []string{emulator.Echo, "key-1", "secret-1", "anna", "127.0.0.1", "localhost"} {
		assert.NotContains(t, err.Error(), never)
	}
}

// Each fault on a first mint: the class, the number of calls, the time it may take, and recovery at
// once when it ends.
func TestFaultsOfTheServer(t *testing.T) {
	for _, fault := range emulator.AllFaults() {
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			e := newEmulator()
			srv := httptest.NewServer(e)
			defer srv.Close()
			o := towards(t, srv.URL, fault.Code)
			c := newClient(t, o)
			e.Set(fault.Faults)

			start := time.Now()
			_, err := c.Issue(t.Context(), "anna", 0)
			require.ErrorIs(t, err, classes[fault.Code])
			assert.Less(t, time.Since(start), o.Timeout+500*time.Millisecond)
			for code, class := range classes {
				assert.Equal(t, code == fault.Code, errors.Is(err, class), "exactly one class: %v", err)
			}
			calls := 1
			if fault.Retried {
				calls = 3
			}
			assert.Equal(t, calls, e.Calls())
			assertGivesNothingAway(t, err)
			assert.Contains(t, c.State(), "failing")
			assertGivesNothingAway(t, errors.New(c.State()))

			e.Reset()
			token, err := c.Issue(t.Context(), "anna", 0)
			require.NoError(t, err)
			claims, ok := e.Verify(token.Value.Reveal())
			require.True(t, ok)
			assert.Equal(t, "anna", claims.User)
			assert.WithinDuration(t, claims.Expires, token.Expires, time.Second)
			assert.False(t, token.Expires.After(claims.Expires), "the end is overstated")
			assert.Contains(t, c.State(), "ok, last answer")
		})
	}
}

// A fault that is retried and passes is not noticed.
func TestFaultsThatPass(t *testing.T) {
	for _, fault := range emulator.AllFaults() {
		if !fault.Retried {
			continue
		}
		t.Run(fault.Name, func(t *testing.T) {
			t.Parallel()
			e := newEmulator()
			srv := httptest.NewServer(e)
			defer srv.Close()
			c := newClient(t, towards(t, srv.URL, fault.Code))
			_, err := c.Issue(t.Context(), "anna", 0) // the fault meets a warm connection
			require.NoError(t, err)

			fault.Faults.Times = 2
			e.Set(fault.Faults)
			_, err = c.Issue(t.Context(), "anna", 0)
			require.NoError(t, err)
			assert.Equal(t, 4, e.Calls())
		})
	}
}

func TestRedirectsAreNeverFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var reached atomic.Int32
		target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
		e := newEmulator()
		e.Set(emulator.Faults{Redirect: target.URL + "/token", Status: status})
		srv := httptest.NewServer(e)
		_, err := newClient(t, towards(t, srv.URL, "")).Issue(t.Context(), "anna", 0)
		require.ErrorIs(t, err, sethealth.ErrInvalid)
		assert.Equal(t, 1, e.Calls())
		srv.Close()
		target.Close()
		assert.Zero(t, reached.Load(), "%d: the secret went elsewhere", status)
	}
}

func TestFaultsOfTheNetwork(t *testing.T) {
	for name, row := range map[string]struct {
		url   func(*testing.T) string
		class error
		says  string
	}{
		"nobody listens":                         {refused, sethealth.ErrUnavailable, "connection refused"},
		"the name does not exist":                {func(*testing.T) string { return "https://no-such-host.invalid" }, nil, "resolved"},
		"the certificate has expired":            {withCertificate(-time.Minute, "127.0.0.1"), sethealth.ErrUnavailable, "expired"},
		"the certificate is another's":           {withCertificate(time.Hour, "192.0.2.1"), sethealth.ErrUnavailable, "another host"},
		"nobody vouches for the certificate":     {selfSigned, sethealth.ErrUnavailable, "not trusted"},
		"no TLS is spoken":                       {speaking("HTTP/1.1 400 " + emulator.Echo + "\r\n\r\n"), sethealth.ErrUnavailable, "TLS"},
		"only TLS 1.1 is spoken":                 {oldTLS, sethealth.ErrUnavailable, "TLS"},
		"a handshake never ends":                 {silent("https"), sethealth.ErrTimeout, "in time"},
		"a connection is taken, then silent":     {silent("http"), sethealth.ErrTimeout, "in time"},
		"a connection is closed at once":         {raw(""), sethealth.ErrUnavailable, "without an answer"},
		"the answer is not HTTP":                 {raw(emulator.Echo + " nonsense\r\n\r\n"), sethealth.ErrUnavailable, "failed"},
		"a status that is no number":             {raw("HTTP/1.1 " + emulator.Echo + "\r\n\r\n"), sethealth.ErrUnavailable, "failed"},
		"a header without end":                   {raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 1<<20)), sethealth.ErrUnavailable, "failed"},
		"headers cut short":                      {raw("HTTP/1.1 200 OK\r\nX-A: " + emulator.Echo), sethealth.ErrUnavailable, "cut short"},
		"a chunk that is none":                   {raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + emulator.Echo + "\r\n"), sethealth.ErrUnavailable, "failed"},
		"two different lengths":                  {raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"), sethealth.ErrUnavailable, "failed"},
		"a switch of protocols nobody asked for": {raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), sethealth.ErrInvalid, "101"},
		"a switch of protocols, then silent":     {keeping("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), sethealth.ErrInvalid, "101"},
		"a gzip that nobody asked for":           {raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"), sethealth.ErrInvalid, "JSON"},
		"any number of interim answers":          {raw(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100_000)), sethealth.ErrUnavailable, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := towards(t, row.url(t), "")
			if row.class == sethealth.ErrTimeout {
				o = towards(t, o.URL, timedOut)
			}
			c := newClient(t, o)
			start := time.Now()
			_, err := c.Issue(t.Context(), "anna", 0)
			assert.Less(t, time.Since(start), o.Timeout+500*time.Millisecond)
			if row.class == nil { // whoever resolves names here may also just be slow to say so
				require.True(t, errors.Is(err, sethealth.ErrUnavailable) || errors.Is(err, sethealth.ErrTimeout), err)
			} else {
				require.ErrorIs(t, err, row.class)
				assert.ErrorContains(t, err, row.says)
			}
			assertGivesNothingAway(t, err)
			if err := c.Check(t.Context()); assert.Error(t, err) {
				assert.Contains(t, err.Error(), "SETHEALTH_URL")
				assertGivesNothingAway(t, err)
			}
		})
	}
}

func refused(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return "http://" + l.Addr().String()
}

// accepting serves connections until the test ends.
func accepting(t *testing.T, scheme string, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { conn.Close() })()
				serve(conn)
			}()
		}
	}()
	t.Cleanup(func() {
		cancel()
		l.Close()
		<-done
	})
	return scheme + "://" + l.Addr().String()
}

func silent(scheme string) func(*testing.T) string {
	return func(t *testing.T) string {
		return accepting(t, scheme, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	}
}

// raw answers each request with bytes, then closes the connection.
func raw(answer string) func(*testing.T) string {
	return func(t *testing.T) string {
		return accepting(t, "http", func(c net.Conn) { answerRaw(c, answer) })
	}
}

// keeping answers a request with bytes, then keeps the connection and says no more.
func keeping(answer string) func(*testing.T) string {
	return func(t *testing.T) string {
		return accepting(t, "http", func(c net.Conn) {
			answerRaw(c, answer)
			_, _ = io.Copy(io.Discard, c)
		})
	}
}

func answerRaw(c net.Conn, answer string) {
	buf := make([]byte, 4096)
	for got := ""; !strings.Contains(got, "false}"); {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		got += string(buf[:n])
	}
	_, _ = io.WriteString(c, answer)
}

// speaking says something as soon as it is spoken to.
func speaking(text string) func(*testing.T) string {
	return func(t *testing.T) string {
		return accepting(t, "https", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, text)
		})
	}
}

func tlsServer(t *testing.T, h http.Handler, config *tls.Config) *httptest.Server {
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = config
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// certificate ends in life and is for one address.
func certificate(t *testing.T, life time.Duration, ip string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IPAddresses: []net.IP{net.ParseIP(ip)}, DNSNames: []string{emulator.Echo + ".example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority.cert, key.Public(), authority.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func withCertificate(life time.Duration, ip string) func(*testing.T) string {
	return func(t *testing.T) string {
		return tlsServer(t, newEmulator(), &tls.Config{Certificates: []tls.Certificate{certificate(t, life, ip)}}).URL
	}
}

func selfSigned(t *testing.T) string { return tlsServer(t, newEmulator(), nil).URL }

func oldTLS(t *testing.T) string {
	return tlsServer(t, newEmulator(), &tls.Config{
		MinVersion: tls.VersionTLS11, MaxVersion: tls.VersionTLS11,
		Certificates: []tls.Certificate{certificate(t, time.Hour, "127.0.0.1")},
	}).URL
}
