package redisx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// health is what is known of the server.
type health struct {
	ill      atomic.Bool
	failures atomic.Int32 // in a row
	last     atomic.Int64 // Unix nanoseconds of the last answer, 0 before the first

	mu     sync.Mutex
	since  time.Time // of the illness
	reason string
}

func (h *health) answered() {
	if h.failures.Load() != 0 {
		h.failures.Store(0)
	}
	h.last.Store(time.Now().UnixNano())
}

// fallIll reports whether that is news.
func (h *health) fallIll(d diagnosis) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ill.Load() {
		return false
	}
	h.since, h.reason = time.Now(), d.reason
	h.ill.Store(true)
	return true
}

func (h *health) stillIll(d diagnosis) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reason = d.reason
}

// recover returns how long the illness was.
func (h *health) recover() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ill.Store(false)
	return time.Since(h.since)
}

// State is the last known state in one line.
func (c *Client) State() string {
	h := &c.health
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.last.Load()
	switch {
	case h.ill.Load():
		return fmt.Sprintf("not available for %s: %s", time.Since(h.since).Round(time.Second), h.reason)
	case last == 0:
		return "not asked yet"
	}
	return fmt.Sprintf("ok, last answer %s ago", time.Since(time.Unix(0, last)).Round(time.Second))
}

// up is whether the server answered and is not ill.
func (c *Client) up() bool { return !c.health.ill.Load() && c.health.last.Load() != 0 }

// Check asks the server now: at first with time to connect, then with no more than a request has. The error
// says what is wrong and how to mend it.
func (c *Client) Check(ctx context.Context) error {
	if err := c.ask(ctx, checkTime); err != nil {
		d := diagnose(err)
		return fmt.Errorf("redis: %s: %s", d.reason, d.mend)
	}
	for range strikes {
		if c.ask(ctx, patience) == nil {
			return nil
		}
	}
	return fmt.Errorf("redis: it answers, but too slow to be of use: a request waits %v for it; put it nearer, or see what slows it down", patience)
}

// diagnosis is what a failure of go-redis means, in words of our own: theirs may hold addresses, names and
// what the server said.
type diagnosis struct {
	reason, mend string
	// certain: the server itself said so. One such answer is enough to leave it alone for a while.
	certain bool
}

// replies are the errors of the server that an operator can mend, by their first words.
var replies = []struct{ code, reason, mend string }{
	{"WRONGPASS", "wrong user or password", "correct them in REDIS_URL"},
	{"NOAUTH", "a password is needed", "put user and password into REDIS_URL"},
	{"NOPERM", mayNot, allow},
	{"ACL failure in script", mayNot, allow},
	{"The user executing the script", mayNot, allow}, // before Redis 7.2
	{"DB index", "it has no database of that number", "correct the number at the end of REDIS_URL"},
	{"MOVED", "it is one node of a cluster", "name the cluster's nodes in REDIS_URL: redis://host:port?addr=host:port"},
	{"OOM", "out of memory", "raise its maxmemory, or let it evict keys (maxmemory-policy volatile-ttl)"},
	{"READONLY", "a read-only replica", "point REDIS_URL at the primary"},
	{"LOADING", "still loading its data", "wait until it is done"},
	{"MISCONF", "refuses writes because it cannot save to disk", "mend its persistence"},
	{"MASTERDOWN", "a replica that lost its primary", "bring the primary back"},
	{"CLUSTERDOWN", "the cluster is down", "mend the cluster"},
}

const (
	mayNot = "the user may not do what is needed"
	allow  = "allow it EVAL, EVALSHA, GET, SET, DEL, PTTL, PEXPIRE and TIME on the keys tokenvend:*, with SELECT for a database other than 0 and CLUSTER SLOTS for a cluster"
)

func diagnose(err error) diagnosis {
	if reply := redis.Error(nil); errors.As(err, &reply) {
		said := strings.TrimPrefix(reply.Error(), "ERR ")
		for _, r := range replies {
			// Redis 6 puts a script's error behind words of its own.
			if strings.HasPrefix(said, r.code) || strings.Contains(said, ": "+r.code+" ") || strings.Contains(said, "-"+r.code+" ") {
				return diagnosis{r.reason, r.mend, true}
			}
		}
		return diagnosis{"it answers with an error", "it must be Redis 6, Valkey or newer, and allow scripts", true}
	}
	var (
		dns        *net.DNSError
		untrusted  *tls.CertificateVerificationError
		unknown    x509.UnknownAuthorityError
		notTLS     tls.RecordHeaderError
		network    net.Error
		isNetError = errors.As(err, &network)
	)
	switch {
	case errors.As(err, &dns):
		return diagnosis{"its host name cannot be resolved", "correct the host in REDIS_URL", false}
	case errors.As(err, &untrusted), errors.As(err, &unknown):
		return diagnosis{"its certificate is not trusted", "install its authority, or point SSL_CERT_FILE at it", false}
	case errors.As(err, &notTLS):
		return diagnosis{"it does not speak TLS", "use redis:// in REDIS_URL, or switch TLS on there", false}
	case errors.Is(err, syscall.ECONNREFUSED):
		return diagnosis{"connection refused", "start it, or correct host and port in REDIS_URL", false}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isNetError && network.Timeout(), errors.Is(err, redis.ErrPoolTimeout):
		return diagnosis{"no answer in time", "see whether it runs, is overloaded, speaks TLS if REDIS_URL begins with rediss, or a firewall is in between", false}
	}
	return diagnosis{"the connection broke", "see whether it runs and speaks the Redis protocol (with rediss:// over TLS)", false}
}
