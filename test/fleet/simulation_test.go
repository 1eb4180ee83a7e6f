package fleet_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache"
)

const (
	// asksEvery is how often an active user's pages ask, on the average: a page load each five minutes.
	asksEvery = 5 * time.Minute
	simulated = 80 // users; they do not know of each other, so that all figures grow with their number
	// Lives of a token: one to warm up, then those that count.
	warming, watched = 1, 4
)

// market sells tokens and counts them.
type market struct {
	life  time.Duration
	sales int
}

func (m *market) Issue(context.Context, string, time.Duration) (sethealth.Token, error) {
	m.sales++
	return sethealth.Token{
		Value: secret.New("token"), Expires: time.Now().Add(m.life), Account: "account", Source: sethealth.Minted,
	}, nil
}

// shelf is the level in Redis as [tokencache.Shared] has it: it gives what has more left than it is asked
// for, else buys.
type shelf struct {
	*market
	tokens map[string]sethealth.Token
}

func (s shelf) Issue(ctx context.Context, user string, minLife time.Duration) (sethealth.Token, error) {
	if held, ok := s.tokens[user]; ok && held.Life(time.Now()) > minLife {
		held.Source = sethealth.Shared
		return held, nil
	}
	token, err := s.market.Issue(ctx, user, minLife)
	s.tokens[user] = token
	return token, err
}

// callsPerUserHour is what a fleet with the real cache in each replica comes to, when users ask at random
// times and the balancer sends each request to any replica.
func callsPerUserHour(t *testing.T, replicas int, life time.Duration, withRedis bool) (calls float64) {
	synctest.Test(t, func(t *testing.T) {
		m := &market{life: life}
		var source sethealth.Issuer = m
		if withRedis {
			source = shelf{m, map[string]sethealth.Token{}}
		}
		fleet := make([]*tokencache.Cache, replicas)
		for i := range fleet {
			var err error
			fleet[i], err = tokencache.New(tokencache.Options{
				Source: source, TTL: life, MinLife: life / 4, Size: simulated, Account: func() string { return "account" },
				Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			})
			require.NoError(t, err)
			defer fleet[i].Close()
		}
		chance := rand.New(rand.NewPCG(1, 2))
		began, warm := time.Now(), false
		for time.Since(began) < (warming+watched)*life {
			if !warm && time.Since(began) >= warming*life {
				m.sales, warm = 0, true
			}
			time.Sleep(time.Duration(chance.ExpFloat64() * float64(asksEvery) / simulated))
			_, err := fleet[chance.IntN(replicas)].Issue(t.Context(), fmt.Sprint("user-", chance.IntN(simulated)), 0)
			require.NoError(t, err)
			synctest.Wait() // for the refresh behind the answer
		}
		calls = float64(m.sales) / simulated / (watched * life).Hours()
	})
	return calls
}

// rounded has two digits that count, and commas.
func rounded(n float64) string {
	unit := math.Pow(10, math.Floor(math.Log10(n))-1)
	digits := fmt.Sprintf("%.0f", math.Round(n/unit)*unit)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

const (
	tableBegins = "<!-- simulation -->\n"
	tableEnds   = "<!-- /simulation -->\n"
)

func TestTheTableOfUpstreamCallsIsTheSimulations(t *testing.T) {
	t.Parallel()
	type cell struct {
		replicas  int
		life      time.Duration
		withRedis bool
	}
	known := map[cell]float64{}
	calls := func(c cell) float64 {
		if c.replicas == 1 {
			c.withRedis = false // nothing to share
		}
		if _, ok := known[c]; !ok {
			known[c] = callsPerUserHour(t, c.replicas, c.life, c.withRedis)
		}
		return known[c]
	}
	var table strings.Builder
	table.WriteString("| active users | replicas | tokens of 15 min: memory alone | with Redis | tokens of 1 h: memory alone | with Redis |\n")
	table.WriteString("|---:|---:|---:|---:|---:|---:|\n")
	for _, row := range []struct{ users, replicas int }{
		{1000, 1}, {1000, 3}, {100_000, 3}, {100_000, 10}, {10_000_000, 10}, {10_000_000, 30},
	} {
		fmt.Fprintf(&table, "| %s | %d |", rounded(float64(row.users)), row.replicas)
		for _, life := range []time.Duration{15 * time.Minute, time.Hour} {
			for _, withRedis := range []bool{false, true} {
				fmt.Fprintf(&table, " %s |", rounded(float64(row.users)*calls(cell{row.replicas, life, withRedis})))
			}
		}
		table.WriteString("\n")
	}

	const page = "../../docs/operations.md"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), tableBegins)
	require.True(t, ok)
	written, after, ok := strings.Cut(rest, tableEnds)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+tableBegins+table.String()+tableEnds+after), 0o644))
		return
	}
	assert.Equal(t, table.String(), written, "go test ./fleet -run Table -update writes it")

	// And what the page says of it elsewhere.
	hour := time.Hour
	perSecond := func(users float64, c cell) string { return rounded(users * calls(c) / hour.Seconds()) }
	many := perSecond(1e7, cell{10, hour, true})
	for _, said := range []string{
		fmt.Sprintf("| upstream calls with `TOKEN_TTL=1h` | %s a second, %s without Redis | %s a second |",
			perSecond(1e5, cell{3, hour, true}), perSecond(1e5, cell{3, hour, false}), many),
		"33,000 a second in place of " + many + " ",
	} {
		assert.True(t, strings.Contains(string(text), said), "the page is to say: %s", said)
	}
	for _, life := range []time.Duration{hour / 4, hour} {
		for _, replicas := range []int{3, 10, 30} {
			assert.LessOrEqual(t, calls(cell{replicas, life, true}), 1.02*calls(cell{1, life, false}), "with Redis, replicas cost nothing")
		}
	}
	assert.Greater(t, calls(cell{30, hour, false}), 5*calls(cell{30, hour, true}))
	assert.LessOrEqual(t, calls(cell{30, hour, false}), float64(time.Hour/asksEvery)*1.05, "memory alone: never more than a call for each request")
}
