package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// maxRemembered bounds how long any session is accepted without another look at it.
const maxRemembered = time.Minute

// remembered is the sessions that one check accepted lately, by a keyed hash of all that was looked at. No
// other check shares its entries, because each has a random key of its own; rejections are not remembered.
type remembered struct {
	key   [sha256.Size]byte
	known *otter.Cache[digest, accepted]
	hits  prometheus.Counter
}

// digest is SHA-256 of the random key and the credential. Nobody outside sees one, so length extension,
// which HMAC would prevent at twice the cost, is of no use to anybody.
type digest [sha256.Size]byte

// accepted is a session. Times are of the wall clock, in Unix nanoseconds.
type accepted struct {
	id          Identity
	made, until int64
}

// newRemembered is bounded by size alone: entries know their own end.
func newRemembered(check string, deps Deps) *remembered {
	m := &remembered{
		known: otter.Must(&otter.Options[digest, accepted]{MaximumSize: max(deps.Size, 1)}),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "tokenvend_session_remembered_total",
			Help:        "Sessions accepted because they were accepted shortly before.",
			ConstLabels: prometheus.Labels{"check": check},
		}),
	}
	_, _ = rand.Read(m.key[:]) // never fails
	deps.Registerer.MustRegister(m.hits)
	return m
}

// hash of a credential of one or more parts, each with its length so that no two lists are alike.
func (m *remembered) hash(parts ...string) digest {
	buf := make([]byte, 0, 2048) // on the stack for a token of ordinary size
	buf = append(buf, m.key[:]...)
	for _, part := range parts {
		buf = binary.BigEndian.AppendUint64(buf, uint64(len(part)))
		buf = append(buf, part...)
	}
	return sha256.Sum256(buf)
}

// recall is the user that was accepted under h, if that still holds. A clock that was set back to before
// the acceptance voids it.
func (m *remembered) recall(h digest, now time.Time) (Identity, bool) {
	known, ok := m.known.GetIfPresent(h)
	if at := now.UnixNano(); !ok || at < known.made || at >= known.until {
		return Identity{}, false
	}
	m.hits.Inc()
	return known.id, true
}

// remember an acceptance until the given time, for a minute at most.
func (m *remembered) remember(h digest, id Identity, now, until time.Time) {
	if end := now.Add(maxRemembered); until.After(end) {
		until = end
	}
	if until.After(now) {
		m.known.Set(h, accepted{id, now.UnixNano(), until.UnixNano()})
	}
}
