package auth

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/recent"
)

const (
	defaultRemembered = 20_000
	// maxVerdictAge bounds how long any yes is believed, even one that nothing but its end could change.
	maxVerdictAge = time.Minute
)

// verdicts remembers each yes of one check for a while, by a keyed hash of the credential. No other
// check shares its entries, because each has a random key of its own; what else a yes depends on
// (endpoint, audience, scope) is fixed for the check's life, and a no is never remembered.
type verdicts struct {
	key   [sha256.Size]byte
	known *recent.Map[digest, verdict]
	hits  prometheus.Counter
}

// digest is SHA-256 of the random key and the credential. Nobody outside sees one, so that the
// extension of its length, which HMAC would prevent at twice the cost, is of no use to anybody.
type digest [sha256.Size]byte

// verdict is a yes. Times are of the wall clock, in Unix nanoseconds.
type verdict struct {
	subject     string
	keys        *keySet // that verified the signature; nil if the check has none
	made, until int64
}

// newVerdicts remembers that many or somewhat more, the least used leave first; a size of 0 means 20,000.
func newVerdicts(check string, size int, reg prometheus.Registerer) *verdicts {
	v := &verdicts{
		known: recent.New[digest, verdict](maxVerdictAge, cmp.Or(size, defaultRemembered)),
		hits: prometheus.NewCounter(prometheus.CounterOpts{
			Name:        "tokenvend_session_remembered_total",
			Help:        "Sessions let in by a verdict that was still remembered.",
			ConstLabels: prometheus.Labels{"check": check},
		}),
	}
	_, _ = rand.Read(v.key[:]) // never fails
	reg.MustRegister(v.hits)
	return v
}

// hash of a credential of one or more parts, each with its length so that no two lists are alike.
func (v *verdicts) hash(parts ...string) digest {
	buf := make([]byte, 0, 2048) // on the stack for a token of ordinary size
	buf = append(buf, v.key[:]...)
	for _, part := range parts {
		buf = binary.BigEndian.AppendUint64(buf, uint64(len(part)))
		buf = append(buf, part...)
	}
	return sha256.Sum256(buf)
}

// recall is the user that was let in under h, if that holds now and rests on the same keys. The wall
// clock is compared on every hit; one that was set back before the verdict was made voids it.
func (v *verdicts) recall(h digest, keys *keySet, now time.Time) (string, bool) {
	known, ok := v.known.Get(h)
	if !ok || known.keys != keys {
		return "", false
	}
	if at := now.UnixNano(); at < known.made || at >= known.until {
		return "", false
	}
	v.hits.Inc()
	return known.subject, true
}

// remember a yes until the given time, never over a minute.
func (v *verdicts) remember(h digest, subject string, keys *keySet, now, until time.Time) {
	if end := now.Add(maxVerdictAge); until.After(end) {
		until = end
	}
	if until.After(now) {
		v.known.Put(h, verdict{subject: subject, keys: keys, made: now.UnixNano(), until: until.UnixNano()})
	}
}
