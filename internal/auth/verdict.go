package auth

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
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
	cache *otter.Cache[digest, verdict]
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

// newVerdicts remembers that many, the least used leave first; a size of 0 means 20,000.
func newVerdicts(check string, size int, reg prometheus.Registerer) (*verdicts, error) {
	v := &verdicts{hits: prometheus.NewCounter(prometheus.CounterOpts{
		Name:        "tokenvend_session_remembered_total",
		Help:        "Sessions let in by a verdict that was still remembered.",
		ConstLabels: prometheus.Labels{"check": check},
	})}
	_, _ = rand.Read(v.key[:]) // never fails
	cache, err := otter.New(&otter.Options[digest, verdict]{
		MaximumSize: cmp.Or(size, defaultRemembered),
		Clock:       wallClock{},
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[digest, verdict]) time.Duration {
			return time.Duration(max(1, e.Value.until-e.Value.made)) // 0 would mean for ever
		}),
	})
	if err != nil {
		return nil, err
	}
	v.cache = cache
	reg.MustRegister(v.hits)
	return v, nil
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
	known, ok := v.cache.GetIfPresent(h)
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
		v.cache.Set(h, verdict{subject: subject, keys: keys, made: now.UnixNano(), until: until.UnixNano()})
	}
}

// wallClock keeps the cache on the clock that verdicts end by, and without a goroutine: what has ended
// is cleared away as others are written.
type wallClock struct{}

func (wallClock) NowNano() int64                      { return time.Now().UnixNano() }
func (wallClock) Tick(time.Duration) <-chan time.Time { return nil }
