// Package attack_test attacks the built binary as one client could. Other users must not notice, and the process must
// stay under 150 MB.
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
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
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

// victim is another user, who requests tokens throughout an attack.
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
			answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
			if assert.NoError(t, err) && assert.Equal(t, 200, answer.Status, answer.Body) {
				v.served.Add(1)
			}
			if v.served.Load()%16 == 0 { // the metrics cost more than a token
				v.peak = max(v.peak, s.Metric("process_resident_memory_bytes"))
			}
		}
	})
	return v
}

// unharmed requires that the victim is still served and that memory stayed under its limit.
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

// abuser speaks HTTP/2 frame by frame. Its flow-control windows are zero, so that the server cannot finish an answer.
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

// request opens the n-th stream with a header that is repeated. Each repetition is an index into the header table, a
// byte on the wire.
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

// discard reads frames until the connection is closed.
func (a *abuser) discard() {
	go func() {
		for {
			if _, err := a.ReadFrame(); err != nil {
				return
			}
		}
	}()
}

// TestHTTP2BombsCostLittleAndNobodyElse opens streams whose headers of some 30 bytes become 86 KB in the server, and
// streams with bodies that the server does not read.
func TestHTTP2BombsCostLittleAndNobodyElse(t *testing.T) {
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	crumb := hpack.HeaderField{Name: "cookie", Value: strings.Repeat("c", 3900)}
	targets := [][2]string{{"GET", "/healthz"}, {"POST", "/token"}, {"GET", "/client.js"}}
	crumbs := func(a *abuser, n int) (uint32, error) {
		target := targets[n%3]
		return a.request(n, target[0], target[1], 22, crumb)
	}
	for attack, send := range map[string]func(a *abuser, n int) error{
		"headers": func(a *abuser, n int) error {
			_, err := crumbs(a, n)
			return err
		},
		"headers and resets": func(a *abuser, n int) error {
			stream, err := crumbs(a, n)
			return errors.Join(err, a.WriteRSTStream(stream, http2.ErrCodeCancel))
		},
		"bodies": func(a *abuser, n int) error {
			stream, err := a.request(n, "POST", "/token", 0, hpack.HeaderField{})
			return errors.Join(err, a.WriteData(stream, false, make([]byte, 16<<10)))
		},
	} {
		for name, env := range map[string]harness.Env{"h2c": nil, "TLS": {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}} {
			t.Run(attack+", "+name, func(t *testing.T) {
				s := start(t, env)
				v := newVictim(t, s)
				for range 30 {
					a := newAbuser(t, s)
					a.discard()
					for n := 0; n < 250 && send(a, n) == nil; n++ { // an error means that the server closed the connection
					}
				}
				v.unharmed(t)
			})
		}
	}
}

// TestAFloodOfIdleConnectionsIsCheapAndNotKept opens 2,300 connections: HTTP/1.1 ones that have had an answer and
// HTTP/2 ones without a request.
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
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
	}
	harness.Eventually(t, "idle connections are closed", func() bool { return s.Descriptors() < before+1500 })
	v.unharmed(t)
}

// TestSlowBodiesTakeNobodysPlace has room for ten requests and a hundred callers that never finish their bodies.
func TestSlowBodiesTakeNobodysPlace(t *testing.T) {
	s := start(t, harness.Env{"MAX_IN_FLIGHT": "10"})
	v := newVictim(t, s)
	mallory := harness.Session(t, "mallory")
	for range 100 {
		_, err := fmt.Fprintf(connect(t, s), "POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{", mallory)
		require.NoError(t, err)
	}
	v.unharmed(t)
}

// TestAnIssuerThatHangsTakesNobodysPlace sends 1,100 tokens of an unknown key; users of a known key are served.
func TestAnIssuerThatHangsTakesNobodysPlace(t *testing.T) {
	issuer := harness.NewIssuer(t)
	issuer.Up()
	s := start(t, harness.Env{"JWT_SECRET": "-", "JWT_ISSUER": issuer.URL, "MAX_IN_FLIGHT": "100"})
	alice := issuer.Session("alice")
	harness.Eventually(t, "the first keys", func() bool { return s.Ask(alice).Status == 200 })
	issuer.Hanging.Store(true)
	mallory := harness.Sign(t, jose.ES256, harness.NewKey(t), issuer.Claims("mallory"))
	var attack sync.WaitGroup
	for range 1100 {
		attack.Go(func() {
			if answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+mallory); err == nil {
				assert.Equal(t, "session_check_unavailable", answer.Code())
			}
		})
	}
	for range 50 {
		answer := s.Ask(alice)
		assert.Equal(t, 200, answer.Status, answer.Body)
	}
	assert.Less(t, s.Metric("process_resident_memory_bytes"), maxMemory)
	attack.Wait()
}
