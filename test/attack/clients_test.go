package attack_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// closes waits until the server closes the connection, and returns what it sent before.
func closes(t testing.TB, conn net.Conn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(harness.Patience))
	said, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	assert.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is still open")
	return string(said)
}

// drip keeps writing pieces, slowly, until the connection is closed.
func drip(conn net.Conn, begin, piece string) {
	_, err := io.WriteString(conn, begin)
	for err == nil {
		time.Sleep(200 * time.Millisecond)
		_, err = io.WriteString(conn, piece)
	}
}

const line = "POST /token HTTP/1.1\r\nHost: x\r\n"

func TestSlowClientsAreDisconnected(t *testing.T) {
	s := start(t, nil)
	post := line + "Content-Type: application/json\r\nAuthorization: Bearer " + harness.Session(t, "alice") + "\r\n"
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	secure := start(t, harness.Env{"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key})
	secure.URL = strings.Replace(secure.URL, "https", "http", 1) // no TLS handshake
	var all sync.WaitGroup                                       // the ten seconds of each pass at once
	for name, row := range map[string]struct {
		service            *harness.Service
		begin, piece, says string
	}{
		"a silent connection":              {s, "", "", ""},
		"headers that never end":           {s, line, "X-A: b\r\n", ""},
		"half a request line":              {s, "POST /tok", "", ""},
		"a body that never ends":           {s, post + "Content-Length: 4000\r\n\r\n{", " ", "invalid_request"},
		"a body in chunks that never ends": {s, post + "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", "invalid_request"},
		"a body that nobody reads":         {s, line + "Content-Length: 4000\r\n\r\n", " ", "unauthenticated"},
		"a body that never comes":          {s, post + "Content-Length: 4000\r\n\r\n", "", "invalid_request"},
		"half an HTTP/2 preface":           {s, "PRI * HTTP/2.0\r\n\r\n", "", ""},
		"no TLS handshake":                 {secure, "", "", ""},
		"half a TLS handshake":             {secure, "\x16\x03\x01\x02\x00", "", ""},
	} {
		conn := connect(t, row.service)
		go drip(conn, row.begin, row.piece)
		all.Go(func() { assert.Contains(t, closes(t, conn), row.says, name) })
	}
	all.Wait()
}

func TestHeadersAboveTheLimitAreRefused(t *testing.T) {
	s := start(t, nil)
	for headers, status := range map[string]int{
		"X-Fat: " + strings.Repeat("a", 90<<10) + "\r\n":               401,
		"X-Fat: " + strings.Repeat("a", 110<<10) + "\r\n":              431,
		"Cookie: " + strings.Repeat("name=value; ", 5<<10) + "a=b\r\n": 401,
		strings.Repeat("X-Many: 1234567\r\n", 20000):                   431,
		strings.Repeat("a", 110<<10) + ": x\r\n":                       431,
	} {
		conn := connect(t, s)
		go func() { _, _ = io.WriteString(conn, line+headers+"Content-Length: 0\r\n\r\n") }()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, status, resp.StatusCode)
	}
}

// TestMalformedFramingNeverSmugglesARequest hides a request with a valid session behind one without a session, framed
// so that two parsers could disagree about where it begins.
func TestMalformedFramingNeverSmugglesARequest(t *testing.T) {
	sethealth := harness.NewSethealth(t)
	s := harness.Start(t, sethealth.Env())
	hidden := line + "Authorization: Bearer " + harness.Session(t, "alice") + "\r\nContent-Length: 0\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	for name, row := range map[string]struct {
		bytes  string
		status []int // of the first answer; 0 for none
	}{
		"chunked, and a length":             {line + length + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden, []int{400, 401}},
		"two lengths that differ":           {line + length + "Content-Length: 0\r\n\r\n" + hidden, []int{400}},
		"a length with a sign":              {line + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(hidden)) + hidden, []int{400}},
		"a chunk line that ends in bare LF": {line + "Transfer-Encoding: chunked\r\n\r\n0;\n" + hidden, []int{400, 401}},
		"an encoding that is unknown":       {line + "Transfer-Encoding: xchunked\r\n\r\n" + hidden, []int{400, 501}},
		"white space before the colon":      {line + "Transfer-Encoding : chunked\r\n" + length + "\r\n" + hidden, []int{400}},
		"two hosts":                         {line + "Host: y\r\nContent-Length: 0\r\n\r\n", []int{400}},
		"HTTP/2 frames":                     {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + hidden, []int{0}},
		"a request as a body":               {line + length + "\r\n" + hidden, []int{401}},
	} {
		conn := connect(t, s)
		_, _ = io.WriteString(conn, row.bytes)
		_ = conn.(*net.TCPConn).CloseWrite()
		said, status := bufio.NewReader(strings.NewReader(closes(t, conn))), 0
		if resp, err := http.ReadResponse(said, nil); err == nil {
			status = resp.StatusCode
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		assert.Contains(t, row.status, status, name)
		rest, _ := io.ReadAll(said)
		assert.NotContains(t, string(rest), "HTTP/1.1 200", name)
	}
	assert.Zero(t, sethealth.Calls(), "a hidden request was served")
}
