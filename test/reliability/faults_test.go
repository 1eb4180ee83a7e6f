package reliability_test

import (
	"io"
	"net"
	"time"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

// fault is one way in which Sethealth, or the network before it, fails, and what is made of it.
type fault struct {
	name    string
	code    string // of the answer to a page without a valid token
	retried bool
	begin   func(*harness.Upstream)
	tls     bool
	// instant: it strikes before a call can be held up, so that requests at the same time need not meet
	// in one call.
	instant bool
	// url, if not empty, stands for an upstream that nobody could ever get a token from.
	url string
}

// allFaults is the whole table. What the emulator plays comes with its own code; the network's faults follow.
func allFaults() (all []fault) {
	for _, f := range faults.All() {
		all = append(all, fault{name: f.Name, code: f.Code, retried: f.Retried, begin: func(u *harness.Upstream) { u.Set(f.Faults) }})
	}
	strike := func(do func(net.Conn)) func(*harness.Upstream) {
		return func(u *harness.Upstream) { u.Strike(do) }
	}
	return append(all,
		fault{name: "connection refused", code: "upstream_unavailable", retried: true, instant: true, begin: (*harness.Upstream).Down},
		fault{name: "connection closed at once", code: "upstream_unavailable", retried: true, begin: strike(func(net.Conn) {})},
		fault{name: "not HTTP", code: "upstream_unavailable", retried: true, begin: strike(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, faults.Echo+" nonsense\r\n\r\n")
		})},
		fault{name: "101 and silence after it", code: "upstream_invalid", begin: strike(func(c net.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = io.WriteString(c, "HTTP/1.1 101 "+faults.Echo+"\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		})},
		fault{name: "host name not found", code: "upstream_unavailable", retried: true, instant: true, url: "https://no-such-host.invalid"},
		fault{name: "TLS handshake that hangs", code: "upstream_timeout", retried: true, tls: true, begin: strike(func(c net.Conn) {
			_, _ = io.Copy(io.Discard, c)
		})},
		fault{name: "TLS not spoken", code: "upstream_unavailable", retried: true, tls: true, begin: strike(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 "+faults.Echo+"\r\n\r\n")
		})},
		fault{name: "certificate expired", code: "upstream_unavailable", retried: true, tls: true, begin: func(u *harness.Upstream) {
			u.Present(-time.Minute, "127.0.0.42")
		}},
		fault{name: "certificate for another host", code: "upstream_unavailable", retried: true, tls: true, begin: func(u *harness.Upstream) {
			u.Present(time.Hour, "192.0.2.1")
		}},
		fault{
			name: "certificate of an unknown authority", code: "upstream_unavailable", retried: true, tls: true,
			begin: (*harness.Upstream).PresentUnknown,
		},
	)
}

// status and retryAfter of the answer, by its code.
var (
	status     = map[string]int{"upstream_rejected": 502, "upstream_invalid": 502, "upstream_unavailable": 503, "upstream_timeout": 504}
	retryAfter = map[string]string{"upstream_unavailable": "2"}
)
