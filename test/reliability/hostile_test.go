package reliability_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// slack is what a busy machine may add to a time-out.
const slack = 10 * time.Second

func dial(t testing.TB, s *harness.Service) net.Conn {
	t.Helper()
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// closes is how long the server takes to close the connection, and what it said before.
func closes(t testing.TB, conn net.Conn, atMost time.Duration) (time.Duration, string) {
	t.Helper()
	start := time.Now()
	require.NoError(t, conn.SetReadDeadline(start.Add(atMost)))
	said, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is still open after %s", atMost)
	return time.Since(start), string(said)
}

// drip writes text without end, a piece now and then, until the connection is gone.
func drip(conn net.Conn, begin, piece string) {
	_, err := io.WriteString(conn, begin)
	for err == nil {
		time.Sleep(200 * time.Millisecond)
		_, err = io.WriteString(conn, piece)
	}
}

func post(session string, more string) string {
	return "POST /token HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + session + "\r\n" + more
}

func TestSlowClientsAreShutOut(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env())
	session := harness.Session(t, "alice")
	for name, row := range map[string]struct {
		begin, piece string
		atMost       time.Duration
		says         string
	}{
		"a connection that says nothing":     {"", "", 5 * time.Second, ""},
		"headers that never end":             {"POST /token HTTP/1.1\r\nHost: x\r\n", "X-A: b\r\n", 5 * time.Second, ""},
		"a request line that never ends":     {"POST /tok", "e", 5 * time.Second, ""},
		"half a request line":                {"POST /tok", "", 5 * time.Second, ""},
		"a body that never ends":             {post(session, "Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"), " ", 10 * time.Second, "invalid_request"},
		"a body in chunks that never ends":   {post(session, "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"), "1\r\n \r\n", 10 * time.Second, "invalid_request"},
		"a body that nobody reads":           {"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", " ", 10 * time.Second, "unauthenticated"},
		"a body that is promised, then none": {post(session, "Content-Type: application/json\r\nContent-Length: 4000\r\n\r\n"), "", 10 * time.Second, "invalid_request"},
		"half an HTTP/2 preface":             {"PRI * HTTP/2.0\r\n\r\n", "", 10 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, s)
			go drip(conn, row.begin, row.piece)
			_, said := closes(t, conn, row.atMost+slack)
			assert.Contains(t, said, row.says)
		})
	}
	t.Cleanup(func() { assert.Zero(t, u.Calls()) })
}

func TestATLSHandshakeThatNeverEndsIsShutOut(t *testing.T) {
	t.Parallel()
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	s := harness.Start(t, harness.NewUpstream(t, false).Env().With(harness.Env{"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key}))
	for _, begin := range []string{"", "\x16\x03\x01\x02\x00", "GET / HTTP/1.1\r\n\r\n"} {
		conn := dial(t, s)
		_, _ = io.WriteString(conn, begin)
		closes(t, conn, 5*time.Second+slack)
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	defer conn.Close()
	closes(t, conn, 10*time.Second+slack) // a handshake, then no HTTP/2 preface
}

func TestHeadersAreServedUpToTheLimit(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.NewUpstream(t, false).Env().With(harness.Env{"RATE_LIMIT": "off"}))
	session := harness.Session(t, "alice")
	for name, row := range map[string]struct {
		headers string
		status  int
	}{
		"one of 90 KiB":           {"X-Fat: " + strings.Repeat("a", 90<<10) + "\r\n", 200},
		"one of 110 KiB":          {"X-Fat: " + strings.Repeat("a", 110<<10) + "\r\n", 431},
		"a cookie jar of 60 KiB":  {"Cookie: " + strings.Repeat("name=value; ", 5<<10) + "a=b\r\n", 200},
		"4,000 small ones":        {strings.Repeat("X-Many: 1234567\r\n", 4000), 200},
		"20,000 small ones":       {strings.Repeat("X-Many: 1234567\r\n", 20000), 431},
		"a name of 110 KiB":       {strings.Repeat("a", 110<<10) + ": x\r\n", 431},
		"a megabyte without line": {"X-Fat: " + strings.Repeat("a", 1<<20) + "\r\n", 431},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, s)
			go func() { _, _ = io.WriteString(conn, post(session, row.headers+"Content-Length: 0\r\n\r\n")) }()
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			assert.Equal(t, row.status, resp.StatusCode)
		})
	}
}

func TestPipelinedRequestsAreAnsweredInTheirOrder(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env().With(harness.Env{"RATE_LIMIT": "off"}))
	const requests = 100
	var all strings.Builder
	for i := range requests {
		all.WriteString(post(harness.Session(t, fmt.Sprintf("user-%d", i%3)), fmt.Sprintf("X-Request-Id: r%d\r\nContent-Length: 0\r\n\r\n", i)))
	}
	conn := dial(t, s)
	go func() { _, _ = io.WriteString(conn, all.String()) }()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	in := bufio.NewReader(conn)
	for i := range requests {
		resp, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("r%d", i), resp.Header.Get("X-Request-Id"))
		claims, ok := u.Verify(harness.Answer{Status: 200, Body: string(body)}.Token())
		require.True(t, ok)
		require.Equal(t, fmt.Sprintf("user-%d", i%3), claims.User)
	}
}

// TestMalformedFramingNeverSmugglesARequest hides a second request with a good session behind a first
// one without any, in such a way that two readers could disagree where it begins.
func TestMalformedFramingNeverSmugglesARequest(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env())
	hidden := post(harness.Session(t, "alice"), "Content-Length: 0\r\n\r\n")
	first := "POST /token HTTP/1.1\r\nHost: x\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	for name, row := range map[string]struct {
		bytes  string
		status []int // of the first answer; 0 for none
	}{
		"chunked, and a length":              {first + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400, 401}},
		"two lengths that differ":            {first + length + "Content-Length: 0\r\n\r\n" + hidden, []int{400}},
		"a list of lengths":                  {first + fmt.Sprintf("Content-Length: %d, 0\r\n\r\n", len(hidden)) + hidden, []int{400}},
		"a length with a sign":               {first + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(hidden)) + hidden, []int{400}},
		"a chunk size that is none":          {first + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + hidden, []int{400, 401}},
		"a chunk that is longer than said":   {first + "Transfer-Encoding: chunked\r\n\r\n1\r\n" + hidden, []int{400, 401}},
		"a chunk line that ends in bare LF":  {first + "Transfer-Encoding: chunked\r\n\r\n0;\n" + hidden, []int{400, 401}},
		"an encoding that is unknown":        {first + "Transfer-Encoding: xchunked\r\n\r\n" + hidden, []int{400, 501}},
		"chunked behind a vertical tab":      {first + "Transfer-Encoding: \x0bchunked\r\n\r\n" + hidden, []int{400, 501}},
		"white space before the colon":       {first + "Transfer-Encoding : chunked\r\n" + length + "\r\n" + hidden, []int{400}},
		"a folded header":                    {first + "X-A: b\r\n Content-Length: 0\r\n" + length + "\r\n" + strings.Repeat("x", len(hidden)), []int{400, 401}},
		"a NUL in a value":                   {first + "X-A: b\x00c\r\n" + length + "\r\n" + hidden, []int{400}},
		"a CR in a value":                    {first + "X-A: b\rc\r\n" + length + "\r\n" + hidden, []int{400}},
		"no host":                            {"POST /token HTTP/1.1\r\nContent-Length: 0\r\n\r\n", []int{400}},
		"two hosts":                          {first + "Host: y\r\nContent-Length: 0\r\n\r\n", []int{400}},
		"HTTP/2 frames":                      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, []int{0}},
		"a length, and a body that is a lie": {first + length + "\r\n" + hidden, []int{401}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, s)
			_, _ = io.WriteString(conn, row.bytes)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, said := closes(t, conn, 10*time.Second+slack)
			status := 0
			in := bufio.NewReader(strings.NewReader(said))
			if resp, err := http.ReadResponse(in, nil); err == nil {
				status = resp.StatusCode
				_, _ = io.Copy(io.Discard, resp.Body)
			}
			assert.Contains(t, row.status, status, said)
			rest, err := io.ReadAll(in)
			require.NoError(t, err)
			assert.NotContains(t, string(rest), "HTTP/1.1 200", "the hidden request was answered")
		})
	}
	t.Cleanup(func() { assert.Zero(t, u.Calls(), "a hidden request was served") })
}

// TestLengthAndChunkedTogetherEndTheConnection: RFC 9112, section 6.3, demands it.
func TestLengthAndChunkedTogetherEndTheConnection(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.NewUpstream(t, false).Env())
	conn := dial(t, s)
	_, err := io.WriteString(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	require.NoError(t, err)
	_, said := closes(t, conn, 5*time.Second+slack)
	assert.Contains(t, said, "HTTP/1.1 401 ")
}

// TestClientsThatVanishLeaveNothingBehind: their requests end early, and nobody else's does.
func TestClientsThatVanishLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env().With(harness.Env{"RATE_LIMIT": "off", "SETHEALTH_TIMEOUT": "1m", "SETHEALTH_ATTEMPT_TIMEOUT": "1m"}))
	release := u.Hold()
	defer release()
	session := harness.Session(t, "alice")
	for range 100 {
		conn := dial(t, s)
		_, err := io.WriteString(conn, post(session, "Content-Length: 0\r\n\r\n"))
		require.NoError(t, err)
		defer conn.Close()
		go func() {
			time.Sleep(500 * time.Millisecond)
			_ = conn.(*net.TCPConn).SetLinger(0)
			_ = conn.Close()
		}()
	}
	stays := make(chan error, 1)
	go func() {
		answer, err := s.Try("POST", "/token", "", "Authorization", "Bearer "+session)
		if err == nil && answer.Status != 200 {
			err = errors.New(answer.Body)
		}
		stays <- err
	}()
	harness.Eventually(t, 10*time.Second, "only the one that stays is left", func() bool {
		return s.Metric("tokenvend_requests_total", `code="canceled"`) == 100 && s.Metric("tokenvend_requests_in_flight") == 1
	})
	release()
	require.NoError(t, <-stays)
	assert.Equal(t, 1, u.Calls())
}

// TestAFloodOfIdleConnectionsIsNotKept: over 2,000 of them none stays, and a user is served meanwhile.
func TestAFloodOfIdleConnectionsIsNotKept(t *testing.T) {
	t.Parallel()
	u := harness.NewUpstream(t, false)
	s := harness.Start(t, u.Env())
	before := s.Descriptors()
	var conns []net.Conn
	for i := range 2300 {
		conn := dial(t, s)
		_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err, "answered, whether it is kept or not")
		require.Equal(t, 200, resp.StatusCode)
		if i%100 == 0 {
			require.LessOrEqual(t, s.Descriptors(), before+2050)
		}
		conns = append(conns, conn)
	}
	closes(t, conns[0], time.Second+slack)
	require.Equal(t, 200, s.Ask(harness.Session(t, "alice")).Status)
	harness.Eventually(t, 5*time.Second+slack, "idle ones are gone", func() bool { return s.Descriptors() < before+400 })
}
