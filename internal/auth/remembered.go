package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// maxRemembered limits how long a session is accepted without checking it again.
const maxRemembered = time.Minute

// remembered caches the sessions that one check has accepted, by a keyed hash of everything that the check depends
// on. Rejections are not cached. A nil *remembered caches nothing.
type remembered struct {
	ttl   time.Duration
	key   [sha256.Size]byte
	known *otter.Cache[digest, accepted]
	hits  prometheus.Counter
}

// digest is the SHA-256 of a random key and a credential. HMAC would cost twice as much and only prevent length
// extension, which needs a digest; these never leave the process.
type digest [sha256.Size]byte

// accepted is a session. Times are wall-clock, in Unix nanoseconds.
type accepted struct {
	id          Identity
	made, until int64
}

// newRemembered makes a cache that is bounded by size: entries have their own expiry.
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

func (m *remembered) hash(credential string) digest {
	return sha256.Sum256(append(m.key[:], credential...))
}

// recallOr returns the session that was accepted for the credential, or else the result of decide, which also returns
// when the session ends if that is known. If the clock is set back to before an entry was made, the entry is ignored.
func (m *remembered) recallOr(credential string, decide func() (Result, time.Time, error)) (Result, error) {
	if m == nil {
		result, _, err := decide()
		return result, err
	}
	key, now := m.hash(credential), time.Now()
	if known, ok := m.known.GetIfPresent(key); ok && known.made <= now.UnixNano() && now.UnixNano() < known.until {
		m.hits.Inc()
		return Result{Identity: known.id}, nil
	}
	result, end, err := decide()
	// After a new cookie, the endpoint may no longer accept the old one.
	if err == nil && result.SetCookies == nil {
		until := now.Add(m.ttl)
		if !end.IsZero() && end.Before(until) {
			until = end
		}
		m.known.Set(key, accepted{result.Identity, now.UnixNano(), until.UnixNano()})
	}
	return result, err
}
