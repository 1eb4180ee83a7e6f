package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// maxRemembered bounds how long any session is accepted without another look at it.
const maxRemembered = time.Minute

// remembered is the sessions that one check accepted lately, by a keyed hash of all that was looked at. No
// other check shares its entries, because each has a random key of its own; rejections are not remembered.
// A nil *remembered remembers nobody.
type remembered struct {
	ttl   time.Duration
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
func newRemembered(check string, ttl time.Duration, deps Deps) *remembered {
	m := &remembered{
		ttl:   ttl,
		known: otter.Must(&otter.Options[digest, accepted]{MaximumSize: max(deps.Size, 1)}),
		hits: promauto.With(deps.Registerer).NewCounter(prometheus.CounterOpts{
			Name:        "tokenvend_session_remembered_total",
			Help:        "Sessions accepted because they were accepted shortly before.",
			ConstLabels: prometheus.Labels{"check": check},
		}),
	}
	_, _ = rand.Read(m.key[:]) // never fails
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

// recallOr is the session that was accepted for the same parts, or else what decide finds. decide returns when
// the session ends, if that is known. A clock that was set back to before an acceptance voids it.
func (m *remembered) recallOr(parts []string, decide func() (Result, time.Time, error)) (Result, error) {
	if m == nil {
		result, _, err := decide()
		return result, err
	}
	key, now := m.hash(parts...), time.Now()
	if known, ok := m.known.GetIfPresent(key); ok && known.made <= now.UnixNano() && now.UnixNano() < known.until {
		m.hits.Inc()
		return Result{Identity: known.id}, nil
	}
	result, end, err := decide()
	// A session that was given another cookie may not be accepted by the old one again.
	if err == nil && result.SetCookies == nil {
		until := now.Add(m.ttl)
		if !end.IsZero() && end.Before(until) {
			until = end
		}
		m.known.Set(key, accepted{result.Identity, now.UnixNano(), until.UnixNano()})
	}
	return result, err
}
