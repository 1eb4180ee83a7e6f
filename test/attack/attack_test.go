// Package attack_test plays what one client can do against the built binary, and holds it to what others
// notice of it: nothing, and to what it costs: under 150 MB.
package attack_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sethealth/tokenvend/test/harness"
)

func TestMain(m *testing.M) {
	harness.AsShipped() // the race detector needs five times the memory
	harness.Client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	os.Exit(m.Run())
}

const maxMemory = 150e6

// victim is another user, who is served all the time that an attack lasts.
type victim struct {
	*harness.Service
	session string
	stop    chan struct{}
	done    sync.WaitGroup
	served  atomic.Int32
	peak    atomic.Int64
}

func newVictim(t *testing.T, s *harness.Service) *victim {
	v := &victim{Service: s, session: harness.Session(t, "alice"), stop: make(chan struct{})}
	require.Equal(t, 200, s.Ask(v.session).Status)
	v.done.Go(func() {
		for {
			select {
			case <-v.stop:
				return
			default:
			}
			answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+v.session)
			if assert.NoError(t, err) && assert.Equal(t, 200, answer.Status, answer.Body) {
				v.served.Add(1)
			}
			v.peak.Store(max(v.peak.Load(), resident(t, s.PID())))
		}
	})
	return v
}

// unharmed ends the attack.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	harness.Eventually(t, time.Minute, "the victim is served", func() bool { return v.served.Load() >= 20 })
	close(v.stop)
	v.done.Wait()
	t.Logf("%d answers meanwhile, %d MB at most", v.served.Load(), v.peak.Load()/1e6)
	assert.Less(t, float64(v.peak.Load()), maxMemory)
}

// resident is the memory of a process, in bytes.
func resident(t testing.TB, pid int) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if !assert.NoError(t, err) {
		return 0
	}
	var size, pages int64
	_, err = fmt.Sscan(string(statm), &size, &pages)
	assert.NoError(t, err)
	return pages * int64(os.Getpagesize())
}

func start(t *testing.T, env harness.Env) *harness.Service {
	return harness.Start(t, harness.NewUpstream(t, false).Env().With(harness.Env{"RATE_LIMIT": "off"}).With(env))
}

func connect(t *testing.T, s *harness.Service) net.Conn {
	t.Helper()
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	var conn net.Conn
	if u.Scheme == "https" {
		conn, err = tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	} else {
		conn, err = net.Dial("tcp", u.Host)
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// bomb opens a connection whose windows are closed and sends streams that name one fat cookie crumb again
// and again by its index in the header table: some 30 bytes each become 86 KB in the server.
func bomb(t *testing.T, s *harness.Service, method, path string, streams int, reset bool) {
	conn := connect(t, s)
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
	var block bytes.Buffer
	encoder, frames := hpack.NewEncoder(&block), http2.NewFramer(conn, nil)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	crumb := hpack.HeaderField{Name: "cookie", Value: strings.Repeat("c", 3900)}
	for i := range streams {
		block.Reset()
		for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		for range 22 {
			_ = encoder.WriteField(crumb)
		}
		id := uint32(2*i + 1)
		err := frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		if err == nil && reset {
			err = frames.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			return // the server has had enough
		}
	}
}

func TestHTTP2BombsCostLittleAndNobodyElse(t *testing.T) {
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	for name, env := range map[string]harness.Env{"h2c": nil, "TLS": {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}} {
		for _, target := range [][2]string{{"GET", "/healthz"}, {"POST", "/token"}, {"GET", "/client.js"}} {
			for _, reset := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s %s, reset %t", name, target[0], target[1], reset), func(t *testing.T) {
					s := start(t, env)
					v := newVictim(t, s)
					for range 30 {
						bomb(t, s, target[0], target[1], 250, reset)
					}
					v.unharmed(t)
				})
			}
		}
	}
}

// TestSlowBodiesTakeNobodysPlace: there is one place, and a hundred callers that do not finish their bodies.
func TestSlowBodiesTakeNobodysPlace(t *testing.T) {
	s := start(t, harness.Env{"MAX_IN_FLIGHT": "1"})
	v := newVictim(t, s)
	mallory := harness.Session(t, "mallory")
	for range 100 {
		_, err := fmt.Fprintf(connect(t, s), "POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{", mallory)
		require.NoError(t, err)
	}
	v.unharmed(t)
}

// TestAnIssuerThatHangsTakesNobodysPlace: users of another key serve on under 1,100 tokens of unknown keys.
func TestAnIssuerThatHangsTakesNobodysPlace(t *testing.T) {
	signing := harness.NewIssuer(t)
	s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": signing.URL, "MAX_IN_FLIGHT": "100"})
	alice := signing.Session(t, "alice")
	harness.Eventually(t, 20*time.Second, "the first keys", func() bool { return s.Ask(alice).Status == 200 })
	signing.Hang()
	stranger := signing.Stranger(t)
	junk := harness.Sign(t, jose.ES256, stranger, signing.Claims("mallory"))
	var attacking sync.WaitGroup
	for range 1100 {
		attacking.Go(func() {
			answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+junk)
			if err == nil {
				assert.Equal(t, "session_check_unavailable", answer.Code())
			}
		})
	}
	for range 50 {
		answer := s.Ask(alice)
		assert.Equal(t, 200, answer.Status, answer.Body)
	}
	assert.Less(t, float64(resident(t, s.PID())), maxMemory)
	attacking.Wait()
}

// TestASessionEndpointThatHangsTakesNobodysPlace: a user of another check is served meanwhile.
func TestASessionEndpointThatHangsTakesNobodysPlace(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(endpoint.Close)
	s := start(t, harness.Env{"SESSION_CHECK": "jwt,forward", "FORWARD_URL": endpoint.URL, "MAX_IN_FLIGHT": "10"})
	v := newVictim(t, s)
	var attacking sync.WaitGroup
	for i := range 500 {
		attacking.Go(func() {
			answer, err := s.Try("POST", "/token", "", "Cookie", fmt.Sprintf("sid=%d", i))
			if err == nil {
				assert.Equal(t, "session_check_unavailable", answer.Code())
			}
		})
	}
	v.unharmed(t)
	attacking.Wait()
}

// TestConnectionsThatSendNothingAreCheap: 1,500 of them, with and without a preface of HTTP/2.
func TestConnectionsThatSendNothingAreCheap(t *testing.T) {
	s := start(t, nil)
	v := newVictim(t, s)
	for i := range 1500 {
		conn := connect(t, s)
		if i%2 == 0 {
			_, _ = io.WriteString(conn, http2.ClientPreface)
			_ = http2.NewFramer(conn, nil).WriteSettings()
		}
	}
	v.unharmed(t)
}

// TestBodiesThatNobodyReadsAreBounded: uploads on streams whose session is not valid.
func TestBodiesThatNobodyReadsAreBounded(t *testing.T) {
	s := start(t, nil)
	v := newVictim(t, s)
	for range 30 {
		conn := connect(t, s)
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
		var block bytes.Buffer
		encoder, frames := hpack.NewEncoder(&block), http2.NewFramer(conn, nil)
		_, _ = io.WriteString(conn, http2.ClientPreface)
		_ = frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		for i := range 16 {
			block.Reset()
			for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/token"}} {
				_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
			id := uint32(2*i + 1)
			_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
			_ = frames.WriteData(id, false, make([]byte, 16<<10))
		}
	}
	v.unharmed(t)
}
