// Package reliability_test holds the built binary to what docs/reliability.md says of it: each fault of
// Sethealth, outages, rotation, hostile clients and clocks.
package reliability_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

// TestMain runs many tests at once, however few the cores: nearly all of their time is spent waiting for
// tokens to age and for time-outs.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// holder is a user with the token that it was given first.
type holder struct {
	t       testing.TB
	service *harness.Service
	session string
	token   string
	since   time.Time
	ends    time.Time // never before the end that tokenvend knows
}

func hold(t testing.TB, s *harness.Service, u *harness.Upstream, user string) holder {
	t.Helper()
	h := holder{t: t, service: s, session: harness.Session(t, user)}
	answer := s.Ask(h.session)
	require.Equal(t, "ok", answer.Code(), answer.Body)
	claims, ok := u.Verify(answer.Token())
	require.True(t, ok)
	require.Equal(t, user, claims.User)
	h.token, h.since, h.ends = answer.Token(), time.Now(), claims.Expires
	return h
}

// untilLeft waits until the token has no more than that left.
func (h holder) untilLeft(left time.Duration) { time.Sleep(time.Until(h.ends.Add(-left))) }

// assertGivesNothingAway looks for what must never leave the service in all that it has printed and in
// the answers.
func assertGivesNothingAway(t testing.TB, s *harness.Service, answers ...harness.Answer) {
	t.Helper()
	never := []string{faults.Echo, harness.Key, harness.Secret, harness.SessionSecret}
	texts := []string{s.Output()}
	for _, a := range answers {
		text := a.Body
		for name, values := range a.Header {
			for _, v := range values {
				text += "\n" + name + ": " + v
			}
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		for _, word := range never {
			require.NotContains(t, text, word)
		}
	}
}
