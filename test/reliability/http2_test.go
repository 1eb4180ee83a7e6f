package reliability_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sethealth/tokenvend/test/harness"
)

// abuser speaks HTTP/2 by hand.
type abuser struct {
	net.Conn
	*http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
}

func newAbuser(t testing.TB, s *harness.Service, settings ...http2.Setting) *abuser {
	a := &abuser{Conn: dial(t, s)}
	_, err := io.WriteString(a.Conn, http2.ClientPreface)
	require.NoError(t, err)
	a.Framer, a.encoder = http2.NewFramer(a.Conn, a.Conn), hpack.NewEncoder(&a.headers)
	require.NoError(t, a.WriteSettings(settings...))
	return a
}

// block is the header block of a request for a token, with more headers.
func (a *abuser) block(method, path string, more ...string) []byte {
	a.headers.Reset()
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "x"}, {":path", path}} {
		_ = a.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	for i := 0; i+1 < len(more); i += 2 {
		_ = a.encoder.WriteField(hpack.HeaderField{Name: more[i], Value: more[i+1]})
	}
	return bytes.Clone(a.headers.Bytes())
}

func (a *abuser) request(stream uint32, block []byte, last bool) error {
	return a.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: last, EndHeaders: true})
}

// read throws away what comes, until the server closes the connection.
func (a *abuser) read() <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_, _ = io.Copy(io.Discard, a.Conn)
	}()
	return closed
}

// abuseLasts is how long each kind of abuse goes on, unless the server ends it.
const abuseLasts = 2 * time.Second

// TestHTTP2AbuseHarmsNobodyElse: a user is served meanwhile, memory stays bounded, and nothing is left
// when the abuser goes. The server cuts some kinds off; of others it just takes no more than it answers.
func TestHTTP2AbuseHarmsNobodyElse(t *testing.T) {
	t.Parallel()
	for name, abuse := range map[string]func(*abuser, string) error{
		"a header block that never ends": func(a *abuser, _ string) error { // CVE-2023-45288
			if err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: a.block("POST", "/token")}); err != nil {
				return err
			}
			junk := bytes.Repeat([]byte{0x00, 0x01, 'a', 0x7f, 0x01}, 100)
			for {
				if err := a.WriteContinuation(1, false, junk); err != nil {
					return err
				}
			}
		},
		"settings without end": func(a *abuser, _ string) error { // CVE-2019-9515
			for {
				if err := a.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16384}); err != nil {
					return err
				}
			}
		},
		"pings without end": func(a *abuser, _ string) error { // CVE-2019-9512
			for {
				if err := a.WritePing(false, [8]byte{}); err != nil {
					return err
				}
			}
		},
		"empty data without end": func(a *abuser, bearer string) error { // CVE-2019-9518
			if err := a.request(1, a.block("POST", "/token", "authorization", bearer, "content-type", "application/json"), false); err != nil {
				return err
			}
			for {
				if err := a.WriteData(1, false, nil); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := harness.NewUpstream(t, false)
			s := harness.Start(t, u.Env().With(harness.Env{"RATE_LIMIT": "off"}))
			session := harness.Session(t, "alice")
			require.Equal(t, 200, s.Ask(session).Status)
			before := s.Descriptors()
			a := newAbuser(t, s)
			require.NoError(t, a.SetWriteDeadline(time.Now().Add(abuseLasts)))
			if name != "settings without end" && name != "pings without end" { // their answers are to pile up
				a.read()
			}
			ended := make(chan error, 1)
			go func() { ended <- abuse(a, "Bearer "+harness.Session(t, "mallory")) }()
			for range 10 {
				start := time.Now()
				require.Equal(t, 200, s.Ask(session).Status)
				assert.Less(t, time.Since(start), 10*time.Second)
			}
			t.Logf("ended by %v", <-ended)
			assert.Less(t, s.Metric("process_resident_memory_bytes"), 512e6) // under the race detector
			_ = a.Close()
			assert.LessOrEqual(t, u.Calls(), 2, "alice's and at most one of mallory's")
			harness.Eventually(t, 30*time.Second, "nothing is left", func() bool {
				return s.Descriptors() <= before+1 && s.Metric("tokenvend_requests_in_flight") == 0
			})
		})
	}
}

func TestAnHTTP2HeaderListOverTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env())
	a := newAbuser(t, s)
	fat := string(bytes.Repeat([]byte("a"), 4000)) // fits into the table, so that each further one is a byte on the wire
	var more []string
	for range 200 {
		more = append(more, "x-fat", fat)
	}
	block := a.block("POST", "/token", more...)
	require.Less(t, len(block), 16<<10, "800 KB of headers in one frame")
	require.NoError(t, a.request(1, block, true))
	assert.Equal(t, "431", a.status(t, 1))
	assert.Zero(t, u.Calls())
}

// status is that of the answer on a stream; empty if it was reset.
func (a *abuser) status(t testing.TB, stream uint32) (status string) {
	require.NoError(t, a.SetReadDeadline(time.Now().Add(10*time.Second)))
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status = f.Value
		}
	})
	for {
		frame, err := a.ReadFrame()
		require.NoError(t, err)
		switch f := frame.(type) {
		case *http2.HeadersFrame:
			_, err := decoder.Write(f.HeaderBlockFragment())
			require.NoError(t, err)
			if f.StreamID == stream {
				return status
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

// TestAFloodOfIdleHTTP2ConnectionsIsNotKept: those that come when there are 2,000 already are closed.
func TestAFloodOfIdleHTTP2ConnectionsIsNotKept(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env())
	before := s.Descriptors()
	for range 2300 {
		newAbuser(t, s).read()
	}
	harness.Eventually(t, 10*time.Second, "the last ones are closed", func() bool { return s.Descriptors() <= before+2010 })
	require.Equal(t, 200, s.Ask(harness.Session(t, "alice")).Status)
}
