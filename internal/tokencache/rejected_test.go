package tokencache_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

func TestARejectedTokenIsReplacedOnceForAllTabs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour, delay: time.Second})
		defer r.Close()
		first := r.issue("alice")
		for range 20 {
			go func() {
				got, err := r.replace(first.ID)
				assert.NoError(t, err)
				assert.Equal(t, "alice#2", got.Value.Reveal())
			}()
		}
		synctest.Wait() // all of them have reported it
		go func() {
			assert.Equal(t, "alice#2", r.issue("alice").Value.Reveal(), "and a tab that has not reported it does not get it either")
		}()
		time.Sleep(2 * time.Second)
		late, err := r.replace(first.ID)
		require.NoError(t, err)
		assert.Equal(t, "alice#2", late.Value.Reveal(), "it was already replaced")
		assert.EqualValues(t, 2, r.calls.Load())
	})
}

func TestARejectedTokenDoesNotStandIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour})
		defer r.Close()
		first := r.issue("alice")
		r.broken.Store(true)
		for range 3 {
			_, err := r.replace(first.ID)
			require.ErrorIs(t, err, sethealth.ErrUnavailable)
			r.unavailable()
			time.Sleep(time.Second)
		}
		r.broken.Store(false)
		time.Sleep(time.Second)
		assert.NotEqual(t, first.ID, r.issue("alice").ID)
	})
}

func TestATokenRejectedDuringTheWaitDoesNotStandIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &source{ttl: time.Hour})
		defer r.Close()
		first := r.issue("alice")
		time.Sleep(time.Hour - 12*time.Second)
		r.delay = 10 * time.Second
		time.AfterFunc(time.Second, func() { _, _ = r.replace(first.ID) })
		assert.Equal(t, "alice#2", r.issue("alice").Value.Reveal(), "after the time at which the first would have stood in")
		assert.EqualValues(t, 2, r.calls.Load())
	})
}

func TestARejectedTokenThatSethealthIssuesAgainIsAnError(t *testing.T) {
	r := newRig(t, &source{answer: func(context.Context, int64) (sethealth.Token, error) {
		return token("the same", time.Now().Add(time.Hour)), nil
	}})
	defer r.Close()
	_, err := r.replace(r.issue("alice").ID)
	assert.ErrorIs(t, err, sethealth.ErrInvalid)
}

func TestNobodyCanRejectTheTokensOfOthers(t *testing.T) {
	r := newRig(t, &source{ttl: time.Hour})
	defer r.Close()
	first := r.issue("alice")
	_, err := r.Issue(t.Context(), named("mallory"), sethealth.Request{Rejected: first.ID})
	require.NoError(t, err)
	assert.Equal(t, first.ID, r.issue("alice").ID)
}
