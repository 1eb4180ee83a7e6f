package tokencache_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

func TestAnyNumberOfSimultaneousRequestsOfAUserMakeOneCall(t *testing.T) {
	for name, size := range map[string]int{"with a memory": 1000, "without one": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource(time.Hour)
				s.delay = time.Second
				c := newCache(t, s, func(o *tokencache.Options) { o.Size = size })
				defer c.Close()
				for range 500 {
					go func() { assert.Equal(t, "alice#1", issue(t, c, 0).Value.Reveal()) }()
				}
				time.Sleep(2 * time.Second)
				assert.EqualValues(t, 1, s.calls.Load())
			})
		})
	}
}

// Without the bubble: real threads may look just before a flight lands and come to join just after.
func TestNoRequestFallsBetweenAFlightAndTheMemory(t *testing.T) {
	s := newSource(time.Hour)
	c := newCache(t, s, func(o *tokencache.Options) { o.Size = 10_000 })
	defer c.Close()
	const users = 2000
	var all sync.WaitGroup
	for i := range users {
		for range 4 {
			all.Go(func() {
				_, err := c.Issue(t.Context(), fmt.Sprint(i), 0)
				assert.NoError(t, err)
			})
		}
	}
	all.Wait()
	assert.EqualValues(t, users, s.calls.Load())
}

func TestTheLeaderLeavesAndNobodyElseNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		s.delay = 3 * time.Second
		c := newCache(t, s)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			began := time.Now()
			_, err := c.Issue(ctx, user, 0)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(began), "it does not wait for the flight")
		}()
		synctest.Wait()
		for range 5 {
			go func() { assert.Equal(t, "alice#1", issue(t, c, 0).Value.Reveal()) }()
		}
		time.Sleep(5 * time.Second)
		assert.EqualValues(t, 1, s.calls.Load())
	})
}

func TestAFlightKeepsTheValuesOfItsContext(t *testing.T) {
	type key struct{}
	s := newSource(time.Hour)
	s.answerWith(func(ctx context.Context, _ int64) (sethealth.Token, error) {
		assert.Equal(t, "span", ctx.Value(key{}))
		return token("t", time.Now().Add(time.Hour), s.current()), nil
	})
	c := newCache(t, s)
	defer c.Close()
	_, err := c.Issue(context.WithValue(t.Context(), key{}, "span"), user, 0)
	require.NoError(t, err)
}

func TestAWaiterThatNeedsMoreThanAnotherReplicasTokenHasAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		s.answerWith(func(_ context.Context, call int64) (sethealth.Token, error) {
			time.Sleep(time.Second)
			got := token(fmt.Sprint(call), time.Now().Add(20*time.Minute), s.current())
			if call == 1 {
				got.Source = sethealth.Shared
			}
			return got, nil
		})
		c := newCache(t, s)
		defer c.Close()
		go func() { assert.Equal(t, "1", issue(t, c, 0).Value.Reveal()) }()
		synctest.Wait()
		go func() { assert.Equal(t, "1", issue(t, c, 19*time.Minute).Value.Reveal(), "it has enough for this one") }()
		go func() {
			assert.Equal(t, "2", issue(t, c, 50*time.Minute).Value.Reveal(), "what is fresh is never refused")
		}()
		time.Sleep(5 * time.Second)
		assert.Equal(t, []time.Duration{15 * time.Minute, 50 * time.Minute}, s.needs())
	})
}

func TestAPanicInTheSourceIsAnErrorForEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		s.answerWith(func(context.Context, int64) (sethealth.Token, error) {
			time.Sleep(time.Second)
			panic("canary-3f9a")
		})
		var log bytes.Buffer
		c := newCache(t, s, func(o *tokencache.Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
		for range 10 {
			go func() {
				_, err := c.Issue(t.Context(), user, 0)
				if assert.Error(t, err) {
					assert.NotContains(t, err.Error(), "canary-3f9a")
				}
			}()
		}
		time.Sleep(2 * time.Second)
		c.Close()
		assert.Contains(t, log.String(), `"level":"ERROR"`)
		assert.NotContains(t, log.String(), "canary-3f9a")
		assert.EqualValues(t, 1, s.calls.Load())
	})
}

func TestCloseEndsBackgroundRefreshesAndWhatComesAfterIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(time.Hour)
		c := newCache(t, s)
		issue(t, c, 0)
		time.Sleep(40 * time.Minute)
		s.delay = time.Hour
		issue(t, c, 0)
		synctest.Wait()
		require.EqualValues(t, 2, s.calls.Load(), "the refresh is under way")
		began := time.Now()
		c.Close()
		assert.Zero(t, time.Since(began))
		_, err := c.Issue(t.Context(), "bob", 0)
		assert.ErrorIs(t, err, sethealth.ErrUnavailable)
	})
}

// mixed drives requests of many users, at random times and with random needs, and holds every token to
// its subject.
func mixed(t assert.TestingT, c sethealth.Issuer, users, requests int, seed uint64) {
	const ttl, span = 2 * time.Minute, 6 * time.Minute
	var all sync.WaitGroup
	defer all.Wait()
	random := rand.New(rand.NewPCG(seed, 1))
	for range requests {
		who := fmt.Sprintf("user-%d", random.IntN(users))
		wait := time.Duration(random.Int64N(int64(span)))
		need := time.Duration(random.Int64N(int64(ttl)))
		all.Go(func() {
			time.Sleep(wait)
			got, err := c.Issue(context.Background(), who, need)
			if err == nil {
				assert.Regexp(t, "^"+who+"#[0-9]+$", got.Value.Reveal())
				assert.GreaterOrEqual(t, got.Life(time.Now()), 5*time.Second)
			}
		})
	}
}

func TestATokenIsOnlyHandedToItsSubject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource(2 * time.Minute)
		s.delay = 2 * time.Second
		c := newCache(t, s, func(o *tokencache.Options) { o.TTL, o.MinLife, o.Size = 2*time.Minute, 30*time.Second, 150 })
		defer c.Close()
		mixed(t, c, 300, 10_000, 1)
	})
}

func TestATokenIsOnlyHandedToItsSubjectWhateverHappens(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(0, 20).Draw(rt, "size")
		seed := rapid.Uint64().Draw(rt, "seed")
		delay := rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "delay")
		breakAt := rapid.Int64Range(0, int64(6*time.Minute)).Draw(rt, "breaks at")
		rotateAt := rapid.Int64Range(0, int64(6*time.Minute)).Draw(rt, "rotates at")
		synctest.Test(t, func(t *testing.T) {
			s := newSource(2 * time.Minute)
			s.delay = time.Duration(delay)
			c := newCache(t, s, func(o *tokencache.Options) { o.TTL, o.MinLife, o.Size = 2*time.Minute, 30*time.Second, size })
			defer c.Close()
			time.AfterFunc(time.Duration(breakAt), func() { s.broken.Store(true) })
			time.AfterFunc(time.Duration(rotateAt), func() { s.use("account-2") })
			mixed(rt, c, 10, 100, seed)
			time.Sleep(6 * time.Minute) // for the timers
		})
	})
}
