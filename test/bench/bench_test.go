//go:build linux

// Package bench_test measures the built tokenvend against other servers, in short turns: each on one CPU, with the load
// and a stand-in for Sethealth on another. Compare shares of bare net/http within one run. `make bench` runs it.
package bench_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

const (
	serverCPU = 0
	loadCPU   = 1
	rounds    = 9
	turnTime  = 500 * time.Millisecond
)

// TestMain makes the test binary serve as a peer if PEER is set.
func TestMain(m *testing.M) {
	if peer := os.Getenv("PEER"); peer != "" {
		servePeer(peer)
	}
	harness.AsShipped()
	os.Exit(m.Run())
}

func TestBench(t *testing.T) {
	if os.Getenv("TOKENVEND_BENCH") == "" {
		t.Skip("TOKENVEND_BENCH is not set: run `make bench`")
	}
	require.GreaterOrEqual(t, runtime.NumCPU(), 2, "CPUs")
	harness.Command(t, nil) // builds tokenvend while all CPUs are in use
	threads, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		pin(id, loadCPU)
	}
	runtime.GOMAXPROCS(1)

	// Only the serverless function requests tokens while it is measured, so only for it Sethealth is 50 ms away.
	near := harness.EnvFor(start(t, "upstream", loadCPU, nil).url())
	far := harness.EnvFor(start(t, "upstream", loadCPU, harness.Env{"DELAY": "50ms"}).url())
	targets := []*target{
		startTarget(t, "bare net/http", "bare", near, withJWT(t, jose.HS256)),
		startTarget(t, "tokenvend HS256", "tokenvend", near, withJWT(t, jose.HS256)),
		startTarget(t, "tokenvend ES256", "tokenvend", near, withJWT(t, jose.ES256)),
		startTarget(t, "tokenvend RS256", "tokenvend", near, withJWT(t, jose.RS256)),
		startTarget(t, "obvious HS256", "obvious", near, withJWT(t, jose.HS256)),
		startTarget(t, "serverless", "serverless", far, withJWT(t, jose.HS256)),
	}
	for _, target := range targets {
		target.load(32, 0, 2*turnTime)
	}
	measureSparseLoad(targets[0], targets[1])
	takeTurns(targets)
	printTable(targets)
	measureStartup(t, near)
	measurePopulation(t, near)
}

// takeTurns measures each target once per round. Each round begins with the next target.
func takeTurns(targets []*target) {
	for round := range rounds {
		for i := range targets {
			t := targets[(round+i)%len(targets)]
			t.turns = append(t.turns, t.load(32, 0, turnTime))
		}
	}
}

// printGoal prints a figure and its goal.
func printGoal(what, measured, wanted string, met bool) {
	fmt.Printf("%-46s %24s   %s\n", what, measured, verdict(wanted, met))
}

func verdict(wanted string, met bool) string {
	if met {
		return wanted + " pass"
	}
	return wanted + " MISS"
}

func printTable(targets []*target) {
	fmt.Printf("\n%-16s %10s %8s %12s %9s %9s   %s\n", "server", "requests/s", "of bare", "CPU/request", "p50", "p99", "goal")
	for _, t := range targets {
		share, goal := t.rate()/targets[0].rate(), ""
		if strings.HasPrefix(t.name, "tokenvend") {
			goal = verdict("≥ 0.50 of bare", share >= .5)
		}
		var costs, latencies []time.Duration
		for _, turn := range t.turns {
			costs = append(costs, turn.cpu/time.Duration(len(turn.latencies)))
			latencies = append(latencies, turn.latencies...)
		}
		fmt.Printf("%-16s %10.0f %8.2f %12s %9s %9s   %s\n", t.name, t.rate(), share, quantile(costs, .5).Round(100*time.Nanosecond),
			quantile(latencies, .5).Round(time.Microsecond), quantile(latencies, .99).Round(time.Microsecond), goal)
	}
	fmt.Println()
}

// measureSparseLoad measures both servers at rates that leave the CPU mostly idle.
func measureSparseLoad(bare, own *target) {
	medians, cpus := map[*target][]time.Duration{}, map[*target][]float64{}
	for range rounds {
		for _, t := range []*target{bare, own} {
			medians[t] = append(medians[t], quantile(t.load(32, 100, 2*turnTime).latencies, .5))
			busy := t.load(32, 1000, turnTime)
			cpus[t] = append(cpus[t], busy.cpu.Seconds()/busy.took.Seconds())
		}
	}
	added, cpu, memory := quantile(medians[own], .5)-quantile(medians[bare], .5), quantile(cpus[own], .5), own.memory()/1e6
	printGoal("100 requests/s: added to the median of bare", added.Round(time.Microsecond).String(), "≤ 150 µs", added <= 150*time.Microsecond)
	printGoal("1,000 requests/s: processor", fmt.Sprintf("%.3f vCPU (bare %.3f)", cpu, quantile(cpus[bare], .5)), "≤ 0.06 vCPU", cpu <= .06)
	printGoal("1,000 requests/s: RSS", fmt.Sprintf("%.1f MB", memory), "≤ 30 MB", memory <= 30)
}

// measureStartup measures the time from exec to the first token.
func measureStartup(t *testing.T, env harness.Env) {
	var took []time.Duration
	for range rounds {
		began := time.Now()
		target := startTarget(t, "a new tokenvend", "tokenvend", env, behindProxy(1))
		target.load(1, 0, 0)
		took = append(took, time.Since(began))
		target.stop()
	}
	first := quantile(took, .5)
	printGoal("exec to first token", first.Round(100*time.Microsecond).String(), "< 30 ms", first < 30*time.Millisecond)
}

// measurePopulation compares a million users to a thousand. A proxy has signed them in, as most JWTs of a million users
// would have to be verified again.
func measurePopulation(t *testing.T, env harness.Env) {
	const few, many = 1_000, 1_000_000
	less, more := startTarget(t, "1,000 users", "users", env, behindProxy(few)), startTarget(t, "1,000,000 users", "users", env, behindProxy(many))
	takeTurns([]*target{less, more})
	share, each := more.rate()/less.rate(), (more.memory()-less.memory())/(many-few)-tokenSize
	printGoal("1,000,000 users: rate of 1,000 users", fmt.Sprintf("%.2f", share), "≥ 0.90", share >= .9)
	printGoal("1,000,000 users: RSS of each over its token", fmt.Sprintf("%.0f bytes", each), "< 1,000 bytes", each < 1000)
}

// quantile returns the q-quantile, with q from 0 to 1.
func quantile[T float64 | time.Duration](values []T, q float64) T {
	return slices.Sorted(slices.Values(values))[int(q*float64(len(values)-1))]
}

// sessions are signed-in users: the environment of a server that accepts them, and a request header for each.
type sessions struct {
	env    harness.Env
	users  int
	header func(user int) string
}

// withJWT returns a thousand users with JWTs of one algorithm.
func withJWT(t *testing.T, algorithm jose.SignatureAlgorithm) sessions {
	var key any = []byte(harness.SessionSecret)
	switch algorithm {
	case jose.ES256:
		key = harness.NewKey(t).Key
	case jose.RS256:
		key = must(rsa.GenerateKey(rand.Reader, 2048))
	}
	s := sessions{env: harness.Env{}}
	if private, ok := key.(crypto.Signer); ok {
		public := &pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(private.Public()))}
		s.env = harness.Env{"JWT_SECRET": "-", "JWT_PUBLIC_KEY": string(pem.EncodeToMemory(public))}
	}
	headers := make([]string, 1000)
	for i := range headers {
		headers[i] = "Authorization: Bearer " + harness.Sign(t, algorithm, key, harness.Claims(userName(i)))
	}
	s.users, s.header = len(headers), func(user int) string { return headers[user] }
	return s
}

// behindProxy returns users that a proxy has signed in.
func behindProxy(users int) sessions {
	env := harness.Env{"SESSION_CHECK": "proxy", "TRUSTED_PROXIES": "127.0.0.1/32", "JWT_SECRET": "-", "JWT_AUDIENCE": "-", "USERS": strconv.Itoa(users)}
	return sessions{env, users, func(user int) string { return "X-Forwarded-User: " + userName(user) }}
}

func userName(n int) string { return fmt.Sprintf("user-%08d@example.com", n) }

// request returns the n-th request. Users take turns, in an order that CPU caches cannot predict.
func (s sessions) request(n int64) string {
	return "POST /token HTTP/1.1\r\nHost: tokens.example.com\r\nOrigin: " + harness.Origin +
		"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0\r\nAccept: */*\r\nContent-Length: 0\r\n" +
		s.header(int(n*7919%int64(s.users))) + "\r\n\r\n"
}
