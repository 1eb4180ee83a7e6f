package harness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"

	"github.com/sethealth/tokenvend/test/faults"
)

// Upstream is a Sethealth whose network can fail too. It stands on an address of its own, so that no
// outgoing connection takes its port while nobody listens there.
type Upstream struct {
	*Sethealth

	t       testing.TB
	address string
	roots   string // file that the service is to trust; empty without TLS
	served  chan net.Conn
	over    chan struct{} // closed when the test is

	mu          sync.Mutex
	listener    net.Listener // nil while nobody listens
	conns       []net.Conn
	strike      func(net.Conn) // in place of service
	gate        chan struct{}  // closed, or nil, if calls pass
	certificate tls.Certificate
}

// NewUpstream starts one that ends with the test.
func NewUpstream(t testing.TB, withTLS bool) *Upstream {
	t.Helper()
	u := &Upstream{t: t, served: make(chan net.Conn), over: make(chan struct{}), Sethealth: &Sethealth{
		Emulator: emulator.New(emulator.Options{Key: secret.New(Key), Secret: secret.New(Secret), Strict: true}),
	}}
	u.address = "127.0.0.42:0"
	u.URL = "http://"
	if withTLS {
		u.URL = "https://"
		u.roots = filepath.Join(t.TempDir(), "roots.pem")
		require.NoError(t, os.WriteFile(u.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority().cert.Raw}), 0o600))
		u.Present(24*time.Hour, "127.0.0.42")
	}
	u.Up()
	u.URL += u.address
	server := &http.Server{Handler: u, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(line{u}) }()
	t.Cleanup(func() {
		u.Down()
		close(u.over)
		_ = server.Close()
	})
	return u
}

// Env is that of [Sethealth.Env], with this upstream's authority trusted.
func (u *Upstream) Env() Env {
	env := u.Sethealth.Env()
	if u.roots != "" {
		env["SSL_CERT_FILE"], env["SSL_CERT_DIR"] = u.roots, filepath.Dir(u.roots)
	}
	return env
}

// Down refuses connections and breaks those that are open.
func (u *Upstream) Down() {
	u.mu.Lock()
	if u.listener != nil {
		_ = u.listener.Close()
		u.listener = nil
	}
	u.mu.Unlock()
	u.Cut()
}

// Up listens again, on the same address.
func (u *Upstream) Up() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.listener != nil {
		return
	}
	l, err := net.Listen("tcp", u.address)
	require.NoError(u.t, err)
	u.listener, u.address = l, l.Addr().String()
	go u.accept(l)
}

func (u *Upstream) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns = append(u.conns, conn)
		strike := u.strike
		u.mu.Unlock()
		if strike != nil {
			go func() {
				defer conn.Close()
				u.pass(nil)
				strike(conn)
			}()
			continue
		}
		if u.roots != "" {
			conn = tls.Server(conn, &tls.Config{GetCertificate: u.present})
		}
		select {
		case u.served <- conn:
		case <-u.over:
		}
	}
}

// Cut breaks all open connections.
func (u *Upstream) Cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, conn := range u.conns {
		_ = conn.Close()
	}
	u.conns = nil
}

// Strike does something else with new connections than to serve them; nil ends that. Open ones are cut.
func (u *Upstream) Strike(do func(net.Conn)) {
	u.mu.Lock()
	u.strike = do
	u.mu.Unlock()
	u.Cut()
}

// Hold lets calls wait before anything happens to them, a fault included, until they are released.
func (u *Upstream) Hold() (release func()) {
	gate := make(chan struct{})
	u.mu.Lock()
	u.gate = gate
	u.mu.Unlock()
	return sync.OnceFunc(func() { close(gate) })
}

func (u *Upstream) pass(ended <-chan struct{}) {
	u.mu.Lock()
	gate := u.gate
	u.mu.Unlock()
	if gate == nil {
		return
	}
	select {
	case <-gate:
	case <-ended:
	case <-u.over:
	}
}

// ServeHTTP implements [http.Handler].
func (u *Upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.pass(r.Context().Done())
	u.Emulator.ServeHTTP(w, r)
}

// Present shows another certificate from now on: for a host or address, ending in life. Open connections
// are cut.
func (u *Upstream) Present(life time.Duration, host string) {
	u.presentOf(authority(), life, host)
}

// PresentUnknown shows a certificate that nobody vouches for.
func (u *Upstream) PresentUnknown() { u.presentOf(newAuthority(), 24*time.Hour, "127.0.0.42") }

func (u *Upstream) presentOf(by signer, life time.Duration, host string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(u.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(life),
		DNSNames: []string{faults.Echo + ".example"}, IPAddresses: []net.IP{net.ParseIP(host)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	require.NoError(u.t, err)
	u.mu.Lock()
	u.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	u.mu.Unlock()
	u.Cut()
}

func (u *Upstream) present(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	u.pass(hello.Context().Done())
	u.mu.Lock()
	defer u.mu.Unlock()
	certificate := u.certificate
	return &certificate, nil
}

// Repair ends every fault, of the emulator and of its network.
func (u *Upstream) Repair() {
	u.Set(faults.Faults{})
	u.Strike(nil)
	if u.roots != "" {
		u.Present(24*time.Hour, "127.0.0.42")
	}
	u.Up()
}

// line hands connections to the emulator's server.
type line struct{ *Upstream }

func (l line) Accept() (net.Conn, error) {
	select {
	case conn := <-l.served:
		return conn, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l line) Close() error   { return nil }
func (l line) Addr() net.Addr { return &net.TCPAddr{} }

type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var authority = sync.OnceValue(newAuthority)

func newAuthority() signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-72 * time.Hour), NotAfter: time.Now().Add(72 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return signer{cert, key}
}
