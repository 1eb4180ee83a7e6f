package harness

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tunnel makes handler stand in for https at these hosts. It returns the environment of a service that uses a proxy,
// which connects every CONNECT to handler.
func Tunnel(t testing.TB, handler http.Handler, hosts ...string) Env {
	t.Helper()
	certFile, keyFile := WriteCertificate(t, t.TempDir(), hosts[0], hosts[1:]...)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	require.NoError(t, err)
	internet := httptest.NewUnstartedServer(handler)
	internet.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	internet.StartTLS()
	t.Cleanup(internet.Close)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there, err := net.Dial("tcp", internet.Listener.Addr().String())
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(there, buffered)
			_ = there.Close()
		}()
		_, _ = io.Copy(here, there)
		_ = here.Close()
	}))
	t.Cleanup(proxy.Close)
	return Env{"HTTPS_PROXY": proxy.URL, "SSL_CERT_FILE": certFile, "SSL_CERT_DIR": filepath.Dir(certFile)}
}
