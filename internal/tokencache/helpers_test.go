package tokencache_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const user = "alice"

var errDown = fmt.Errorf("down: %w", sethealth.ErrUnavailable)

// source is Sethealth as the tests need it: it answers with the user and the number of the call.
type source struct {
	ttl     time.Duration
	delay   time.Duration
	account atomic.Pointer[string]
	broken  atomic.Bool
	calls   atomic.Int64

	mu    sync.Mutex
	asked []time.Duration
	// answer replaces the ordinary answer, if set.
	answer func(ctx context.Context, call int64) (sethealth.Token, error)
}

func newSource(ttl time.Duration) *source {
	s := &source{ttl: ttl}
	s.use("account-1")
	return s
}

func (s *source) use(account string) { s.account.Store(&account) }
func (s *source) current() string    { return *s.account.Load() }

func (s *source) Issue(ctx context.Context, user string, minLife time.Duration) (sethealth.Token, error) {
	call, began, account := s.calls.Add(1), time.Now(), s.current()
	s.mu.Lock()
	s.asked = append(s.asked, minLife)
	answer := s.answer
	s.mu.Unlock()
	if answer != nil {
		return answer(ctx, call)
	}
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return sethealth.Token{}, ctx.Err()
	}
	if s.broken.Load() {
		return sethealth.Token{}, errDown
	}
	return token(fmt.Sprintf("%s#%d", user, call), began.Add(s.ttl), account), nil
}

// needs are the lives that the source was asked for, call by call.
func (s *source) needs() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *source) answerWith(f func(ctx context.Context, call int64) (sethealth.Token, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func token(value string, expires time.Time, account string) sethealth.Token {
	return sethealth.Token{
		Value: secret.New(value), Expires: expires, Hash: "0123456789abcdef", Account: account, Source: sethealth.Minted,
	}
}

// newCache makes a Cache of one hour's TTL, unless change says otherwise.
func newCache(t testing.TB, s *source, change ...func(*tokencache.Options)) *tokencache.Cache {
	t.Helper()
	o := tokencache.Options{
		Source: s, TTL: time.Hour, MinLife: 15 * time.Minute, Size: 1000, Account: s.current,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&o)
	}
	c, err := tokencache.New(o)
	require.NoError(t, err)
	return c
}

func issue(t testing.TB, c sethealth.Issuer, minLife time.Duration) sethealth.Token {
	t.Helper()
	got, err := c.Issue(t.Context(), user, minLife)
	require.NoError(t, err)
	return got
}

// metricOf is the value of a counter or gauge, -1 if there is none.
func metricOf(reg *prometheus.Registry, name, label string) float64 {
	families, _ := reg.Gather()
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return -1
}
