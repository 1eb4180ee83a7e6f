package tokencache_test

import (
	"context"
	"fmt"
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

// Not in a bubble: real threads may look just before a call ends and start another one just after.
func TestAnyNumberOfRequestsOfAUserMakeOneCall(t *testing.T) {
	const users = 1000
	r := newRig(t, &source{ttl: time.Hour}, func(c *tokencache.Config, _ *tokencache.Options) { c.Size = 10 * users })
	defer r.Close()
	var all sync.WaitGroup
	for i := range users {
		for need := range 4 {
			all.Go(func() {
				_, err := r.Issue(t.Context(), named(fmt.Sprint(i)), sethealth.Request{MinLife: time.Duration(need) * 10 * time.Minute})
				assert.NoError(t, err)
			})
		}
	}
	all.Wait()
	assert.EqualValues(t, users, r.calls.Load())
}

func TestACallerThatLeavesDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour, delay: 3 * time.Second})
		defer r.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() {
			began := time.Now()
			_, err := r.Issue(ctx, alice, sethealth.Request{})
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, time.Second, time.Since(began))
		}()
		synctest.Wait()
		for range 5 {
			go func() { assert.Equal(t, "alice#1", r.issue("alice").Value.Reveal()) }()
		}
		time.Sleep(5 * time.Second)
		assert.EqualValues(t, 1, r.calls.Load())
	})
}

func TestACallKeepsContextValuesAndHasItsOwnTimeOut(t *testing.T) {
	type key struct{}
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: func(ctx context.Context, _ int64) (sethealth.Token, error) {
			assert.Equal(t, "span", ctx.Value(key{}))
			<-ctx.Done()
			return sethealth.Token{}, ctx.Err()
		}}
		r := newRig(t, s)
		defer r.Close()
		began := time.Now()
		_, err := r.Issue(context.WithValue(t.Context(), key{}, "span"), alice, sethealth.Request{})
		assert.ErrorIs(t, err, sethealth.ErrTimeout)
		assert.Equal(t, 16*time.Second, time.Since(began), "the time-out of the source and the life of two locks")
	})
}

func TestAPanicInTheSourceIsAnErrorForEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{answer: func(context.Context, int64) (sethealth.Token, error) {
			time.Sleep(time.Second)
			panic("canary")
		}})
		defer r.Close()
		for range 10 {
			go func() {
				_, err := r.Issue(t.Context(), alice, sethealth.Request{})
				assert.ErrorContains(t, err, "panicked")
				assert.NotContains(t, err.Error(), "canary")
			}()
		}
		time.Sleep(1500 * time.Millisecond)
		assert.Contains(t, r.log.String(), `"level":"ERROR"`)
		assert.NotContains(t, r.log.String(), "canary")
		assert.EqualValues(t, 1, r.calls.Load())
	})
}

func TestCloseEndsBackgroundRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour})
		r.issue("alice")
		time.Sleep(40 * time.Minute)
		r.delay = time.Hour
		r.issue("alice")
		synctest.Wait()
		require.EqualValues(t, 2, r.calls.Load(), "the refresh is in progress")
		began := time.Now()
		r.Close()
		assert.Zero(t, time.Since(began))
		_, err := r.Issue(t.Context(), named("bob"), sethealth.Request{})
		assert.ErrorIs(t, err, sethealth.ErrUnavailable)
	})
}

func TestATokenIsOnlyIssuedToItsUserWhateverHappens(t *testing.T) {
	const ttl, span = 2 * time.Minute, 6 * time.Minute
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 20).Draw(rt, "size")
		delay := rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "delay")
		breakAt := rapid.Int64Range(0, int64(span)).Draw(rt, "breaks at")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, &source{ttl: ttl, delay: time.Duration(delay)}, life(ttl, ttl/4),
				func(c *tokencache.Config, _ *tokencache.Options) { c.Size = size })
			defer r.Close()
			defer synctest.Wait()
			time.AfterFunc(time.Duration(breakAt), func() { r.broken.Store(true) })
			var all sync.WaitGroup
			for range 100 {
				who := fmt.Sprintf("user-%d", random.IntN(10))
				wait, need := time.Duration(random.Int64N(int64(span))), time.Duration(random.Int64N(int64(ttl)))
				all.Go(func() {
					time.Sleep(wait)
					got, err := r.Issue(context.Background(), named(who), sethealth.Request{MinLife: need})
					if err == nil {
						assert.Regexp(rt, "^"+who+"#[0-9]+$", got.Value.Reveal())
						assert.GreaterOrEqual(rt, got.Remaining(time.Now()), 5*time.Second)
					}
				})
			}
			all.Wait()
			time.Sleep(span)
		})
	})
}
