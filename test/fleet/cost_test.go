package fleet_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

// BenchmarkMemory is what a user costs in memory: in a replica, and in Redis.
//
//	go test ./fleet -run '^$' -bench Memory -benchtime 10000x
func BenchmarkMemory(b *testing.B) {
	for what, env := range map[string]harness.Env{
		"memory": {"TOKEN_CACHE": "memory", "REDIS_URL": "-"},
		"redis":  {},
	} {
		b.Run(what, func(b *testing.B) {
			f := newFleet(b, redistest.Start(b), 0, "DEBUG_PPROF", "true")
			f.replicas = []*harness.Service{harness.Start(b, f.env.With(env))}
			crowd{f: f, name: "early", users: 500}.ask(500)
			heap, used := f.heap(), f.redisMemory()
			crowd{f: f, name: "user", users: b.N}.ask(b.N)
			b.StopTimer()
			if what == "redis" {
				f.settled(500 + b.N)
				// A limit lies in Redis for as long as something is owed: a second after a request.
				harness.Eventually(b, soon, "the limits are gone", func() bool { return len(f.keys(":limit")) == 0 })
			}
			b.ReportMetric(float64(f.heap()-heap)/float64(b.N), "heap-bytes/user")
			b.ReportMetric(float64(f.redisMemory()-used)/float64(b.N), "redis-bytes/user")
			b.ReportMetric(float64(len(f.replicas[0].Ask(harness.Session(b, "user-0@clinic.example")).Token())), "token-bytes")
		})
	}
}

// BenchmarkRequest is the processor time of one request, the replica's and that of Redis: with all in
// memory, with the limit in Redis, and with the token there too.
//
//	go test ./fleet -run '^$' -bench Request -benchtime 20000x
func BenchmarkRequest(b *testing.B) {
	for what, env := range map[string]harness.Env{
		"memory":          {"TOKEN_CACHE": "memory", "REDIS_URL": "-"},
		"limit-in-redis":  {},
		"tokens-in-redis": {"TOKEN_CACHE_SIZE": "1"},
	} {
		b.Run(what, func(b *testing.B) {
			redis := redistest.Start(b)
			f := newFleet(b, redis, 0, "RATE_LIMIT", "1000000/1m")
			f.replicas = []*harness.Service{harness.Start(b, f.env.With(env))}
			c := crowd{f: f, name: "user", users: 200}
			c.ask(400)
			own, server := processorTime(b, f.replicas[0].PID()), processorTime(b, f.redisPID())
			b.ResetTimer()
			c.ask(b.N)
			b.StopTimer()
			b.ReportMetric(micros(b, processorTime(b, f.replicas[0].PID())-own), "replica-µs/op")
			b.ReportMetric(micros(b, processorTime(b, f.redisPID())-server), "redis-µs/op")
		})
	}
}

// crowd is users who ask one after the other, 16 at a time.
type crowd struct {
	f     *fleet
	name  string
	users int
}

func (c crowd) ask(requests int) {
	sessions := make([]string, c.users)
	for i := range sessions {
		sessions[i] = harness.Session(c.f.t, fmt.Sprintf("%s-%d@clinic.example", c.name, i))
	}
	if b, ok := c.f.t.(*testing.B); ok {
		b.ResetTimer()
	}
	var next, failed atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(requests); i = next.Add(1) - 1 {
				answer, err := c.f.replicas[0].Try("POST", "/token", "", "Authorization", "Bearer "+sessions[i%int64(c.users)])
				if err != nil || answer.Status != 200 {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	require.Zero(c.f.t, failed.Load())
}

// heap is the live heap of the first replica, right after a collection.
func (f *fleet) heap() int {
	resp, err := http.Get(f.replicas[0].Admin + "/debug/pprof/heap?gc=1")
	require.NoError(f.t, err)
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	require.Equal(f.t, 200, resp.StatusCode)
	return int(f.replicas[0].Metric("go_memstats_heap_alloc_bytes"))
}

func (f *fleet) redisMemory() int { return f.redisInfo("memory", "used_memory") }
func (f *fleet) redisPID() int    { return f.redisInfo("server", "process_id") }

func (f *fleet) redisInfo(section, name string) int {
	client := f.client()
	defer client.Close()
	info, err := client.Info(f.t.Context(), section).Result()
	require.NoError(f.t, err)
	found := regexp.MustCompile(`(?m)^` + name + `:(\d+)`).FindStringSubmatch(info)
	require.NotNil(f.t, found)
	n, err := strconv.Atoi(found[1])
	require.NoError(f.t, err)
	return n
}

// processorTime is what a process has used, in hundredths of a second.
func processorTime(t testing.TB, pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skip("skipped: this needs /proc")
	}
	// The fields after the name, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	require.NoError(t, err)
	system, err := strconv.Atoi(fields[12])
	require.NoError(t, err)
	return user + system
}

func micros(b *testing.B, hundredths int) float64 { return float64(hundredths) * 10_000 / float64(b.N) }
