// Package attack_test plays what one client can do against the built binary, and holds it to what others
// notice of it: nothing, and to what it costs: under 150 MB.
package attack_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
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
	"syscall"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sethealth/tokenvend/test/harness"
)

func TestMain(m *testing.M) {
	harness.AsShipped() // the race detector needs five times the memory
	os.Exit(m.Run())
}

const maxMemory = 150e6

// victim is another user, who is served all the time that an attack lasts.
type victim struct {
	*harness.Service
	stop   chan struct{}
	done   sync.WaitGroup
	served atomic.Int32
	peak   float64
}

func newVictim(t *testing.T, s *harness.Service) *victim {
	v, session := &victim{Service: s, stop: make(chan struct{})}, harness.Session(t, "alice")
	require.Equal(t, 200, s.Ask(session).Status)
	v.done.Go(func() {
		for {
			select {
			case <-v.stop:
				return
			default:
			}
			ask := func() (harness.Answer, error) { return s.Try("POST", "/token", "", "Authorization", "Bearer "+session) }
			answer, err := ask()
			if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
				answer, err = ask() // as browsers do: an idle connection may be closed just when it is used again
			}
			if assert.NoError(t, err) && assert.Equal(t, 200, answer.Status, answer.Body) {
				v.served.Add(1)
			}
			if v.served.Load()%16 == 0 { // a look costs more than an answer
				v.peak = max(v.peak, s.Metric("process_resident_memory_bytes"))
			}
		}
	})
	return v
}

// unharmed ends the attack.
func (v *victim) unharmed(t *testing.T) {
	t.Helper()
	before := v.served.Load()
	harness.Eventually(t, "the victim is served", func() bool { return v.served.Load() >= before+20 })
	close(v.stop)
	v.done.Wait()
	t.Logf("%d answers meanwhile, %.0f MB at most", v.served.Load(), v.peak/1e6)
	assert.Less(t, v.peak, maxMemory)
}

func start(t *testing.T, env harness.Env) *harness.Service {
	t.Helper()
	return harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{"RATE_LIMIT": "off"}).With(env))
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

// abuser speaks HTTP/2 by hand. Its windows are closed, so that no answer ends.
type abuser struct {
	*http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
}

func newAbuser(t *testing.T, s *harness.Service) *abuser {
	t.Helper()
	conn := connect(t, s)
	a := &abuser{Framer: http2.NewFramer(conn, conn)}
	a.encoder = hpack.NewEncoder(&a.headers)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	_ = a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	return a
}

// request begins the n-th stream, with one more header again and again: by its index in the header table it
// is a byte on the wire from the second time on.
func (a *abuser) request(n int, method, path string, times int, more hpack.HeaderField) (stream uint32, err error) {
	a.headers.Reset()
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		_ = a.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for range times {
		_ = a.encoder.WriteField(more)
	}
	stream = uint32(2*n + 1)
	return stream, a.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: a.headers.Bytes(), EndStream: more.Value != "", EndHeaders: true})
}

// discard reads what comes, until the connection is gone.
func (a *abuser) discard() {
	go func() {
		for {
			if _, err := a.ReadFrame(); err != nil {
				return
			}
		}
	}()
}

// TestHTTP2BombsCostLittleAndNobodyElse sends streams of some 30 bytes that each become 86 KB in the server.
func TestHTTP2BombsCostLittleAndNobodyElse(t *testing.T) {
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	crumb := hpack.HeaderField{Name: "cookie", Value: strings.Repeat("c", 3900)}
	for name, env := range map[string]harness.Env{"h2c": nil, "TLS": {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reset %t", name, reset), func(t *testing.T) {
				s := start(t, env)
				v := newVictim(t, s)
				targets := [][2]string{{"GET", "/healthz"}, {"POST", "/token"}, {"GET", "/client.js"}}
				for i := range 30 {
					a := newAbuser(t, s)
					a.discard()
					var err error
					for n := 0; n < 250 && err == nil; n++ { // an error is that the server has had enough
						var stream uint32
						stream, err = a.request(n, targets[i%3][0], targets[i%3][1], 22, crumb)
						if err == nil && reset {
							err = a.WriteRSTStream(stream, http2.ErrCodeCancel)
						}
					}
				}
				v.unharmed(t)
			})
		}
	}
}

func TestBodiesThatNobodyReadsAreBounded(t *testing.T) {
	s := start(t, nil)
	v := newVictim(t, s)
	for range 30 {
		a := newAbuser(t, s)
		a.discard()
		for n := range 16 {
			stream, _ := a.request(n, "POST", "/token", 0, hpack.HeaderField{})
			_ = a.WriteData(stream, false, make([]byte, 16<<10))
		}
	}
	v.unharmed(t)
}

// TestAFloodOfIdleConnectionsIsCheapAndNotKept: of 2,300, some of HTTP/1.1 that were answered and some of
// HTTP/2 that never asked, no more than 2,000 stay.
func TestAFloodOfIdleConnectionsIsCheapAndNotKept(t *testing.T) {
	s := start(t, nil)
	v := newVictim(t, s)
	before := s.Descriptors()
	for i := range 2300 {
		if i%2 == 0 {
			newAbuser(t, s).discard()
			continue
		}
		conn := connect(t, s)
		_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "answered, whether it is kept or not")
		require.Equal(t, 200, resp.StatusCode)
	}
	harness.Eventually(t, "idle ones are gone", func() bool { return s.Descriptors() < before+1500 })
	v.unharmed(t)
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

// attacked sends n requests at once and holds each to say that the session cannot be checked.
func attacked(t *testing.T, s *harness.Service, n int, header, value string) (end func()) {
	var attacking sync.WaitGroup
	for i := range n {
		attacking.Go(func() {
			answer, err := s.Try("POST", "/token", "", header, strings.ReplaceAll(value, "%", fmt.Sprint(i)))
			if err == nil {
				assert.Equal(t, "session_check_unavailable", answer.Code())
			}
		})
	}
	return attacking.Wait
}

// TestAnIssuerThatHangsTakesNobodysPlace: users of another key serve on under 1,100 tokens of an unknown key.
func TestAnIssuerThatHangsTakesNobodysPlace(t *testing.T) {
	issuer := harness.NewIssuer(t)
	issuer.Up()
	s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": issuer.URL, "MAX_IN_FLIGHT": "100"})
	alice := issuer.Session("alice")
	harness.Eventually(t, "the first keys", func() bool { return s.Ask(alice).Status == 200 })
	issuer.Hanging.Store(true)
	end := attacked(t, s, 1100, "Authorization", "Bearer "+harness.Sign(t, jose.ES256, harness.NewKey(t), issuer.Claims("mallory")))
	for range 50 {
		answer := s.Ask(alice)
		assert.Equal(t, 200, answer.Status, answer.Body)
	}
	assert.Less(t, s.Metric("process_resident_memory_bytes"), maxMemory)
	end()
}

// TestASessionEndpointThatHangsTakesNobodysPlace: a user of another check is served meanwhile.
func TestASessionEndpointThatHangsTakesNobodysPlace(t *testing.T) {
	endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(endpoint.Close)
	s := start(t, harness.Env{"SESSION_CHECK": "jwt,forward", "FORWARD_URL": endpoint.URL, "FORWARD_TIMEOUT": "1s", "MAX_IN_FLIGHT": "10"})
	v := newVictim(t, s)
	end := attacked(t, s, 500, "Cookie", "sid=%")
	v.unharmed(t)
	end()
}
