package app_test

import (
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
)

// onPipe runs a test with fake time and the deadlines of a connection to which nobody writes.
func onPipe(t *testing.T, test func(t *testing.T, c, peer net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := app.Postponed(near)
		defer far.Close()
		defer c.Close()
		time.Sleep(time.Minute) // later than since
		test(t, c, far)
	})
}

// took is how long a call that ends with its deadline took.
func took(t *testing.T, call func([]byte) (int, error)) time.Duration {
	start := time.Now()
	_, err := call(make([]byte, 10))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	return time.Since(start)
}

func readsWhatComesLate(t *testing.T, c, peer net.Conn) {
	go func() {
		time.Sleep(time.Hour)
		_, _ = peer.Write([]byte("late"))
	}()
	n, err := c.Read(make([]byte, 10))
	require.NoError(t, err)
	assert.Equal(t, 4, n)
}

func TestADeadlineEndsAReadAndAWriteOnTheDot(t *testing.T) {
	onPipe(t, func(t *testing.T, c, _ net.Conn) {
		require.NoError(t, c.SetDeadline(time.Now().Add(3*time.Second)))
		assert.Equal(t, 3*time.Second, took(t, c.Read))
		assert.Zero(t, took(t, c.Write), "it has passed")
	})
}

func TestADeadlineThatWasMovedOnIsNotMet(t *testing.T) {
	onPipe(t, func(t *testing.T, c, _ net.Conn) {
		for range 5 {
			require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(5*time.Second)))
			time.Sleep(2 * time.Second)
		}
		assert.Equal(t, 3*time.Second, took(t, c.Read), "from the last of them")
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Minute)))
		assert.Equal(t, time.Minute, took(t, c.Write))
	})
}

func TestADeadlineMayBeMovedBackAndTakenAway(t *testing.T) {
	onPipe(t, func(t *testing.T, c, peer net.Conn) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		assert.Equal(t, time.Second, took(t, c.Read))

		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		readsWhatComesLate(t, c, peer)
	})
}

func TestAReadIsInterruptedAndTheNextOneIsNot(t *testing.T) {
	onPipe(t, func(t *testing.T, c, _ net.Conn) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		interrupted := make(chan time.Duration)
		go func() { interrupted <- took(t, c.Read) }()
		time.Sleep(time.Second)
		require.NoError(t, c.SetReadDeadline(time.Unix(1, 0))) // as net/http does
		assert.Equal(t, time.Second, <-interrupted)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(2*time.Minute)))
		assert.Equal(t, 2*time.Minute, took(t, c.Read))
	})
}

func TestARealDeadlineIsLeftBehindByAnInterruption(t *testing.T) {
	onPipe(t, func(t *testing.T, c, peer net.Conn) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
		assert.Zero(t, took(t, c.Read))
		require.NoError(t, c.SetReadDeadline(time.Time{}))
		readsWhatComesLate(t, c, peer)
	})
}

func TestAWriteGoesOnWhereARealDeadlineEndedIt(t *testing.T) {
	onPipe(t, func(t *testing.T, c, peer net.Conn) {
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Minute)))
		got := make([]byte, 0, 10)
		go func() {
			for len(got) < cap(got) { // a byte a second
				time.Sleep(time.Second)
				n, _ := peer.Read(got[len(got) : len(got)+1])
				got = got[:len(got)+n]
			}
		}()
		n, err := c.Write([]byte("0123456789"))
		require.NoError(t, err)
		assert.Equal(t, 10, n)
		synctest.Wait()
		assert.Equal(t, "0123456789", string(got))
	})
}
