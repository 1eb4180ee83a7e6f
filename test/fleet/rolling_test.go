package fleet_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

// balancer sends requests to the replicas in turns, to those alone that say that they are ready. It asks
// them every 100 ms, and never sends a request twice.
type balancer struct {
	mu    sync.Mutex
	next  int
	known map[string]*httputil.ReverseProxy
	ready []string
}

func newBalancer(t testing.TB) (b *balancer, address string) {
	b = &balancer{known: map[string]*httputil.ReverseProxy{}}
	server := httptest.NewServer(b)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			b.look()
			select {
			case <-time.After(100 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		server.Close()
	})
	return b, server.URL
}

func (b *balancer) add(t testing.TB, s *harness.Service) {
	target, err := url.Parse(s.URL)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known[s.URL] = proxy
}

func (b *balancer) look() {
	b.mu.Lock()
	var all, ready []string
	for backend := range b.known {
		all = append(all, backend)
	}
	b.mu.Unlock()
	for _, backend := range all {
		resp, err := harness.Client.Get(backend + "/readyz")
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			ready = append(ready, backend)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready = ready
}

func (b *balancer) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ready)
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	if len(b.ready) == 0 {
		b.mu.Unlock()
		http.Error(w, "nobody is ready", http.StatusBadGateway)
		return
	}
	b.next++
	proxy := b.known[b.ready[b.next%len(b.ready)]]
	b.mu.Unlock()
	proxy.ServeHTTP(w, r)
}

func TestARollingRestartUnderLoadFailsNoRequestAndBuysNoToken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), 3, "SHUTDOWN_DELAY", "2s", "RATE_LIMIT", "off")
	b, address := newBalancer(t)
	for _, s := range f.replicas {
		b.add(t, s)
	}
	harness.Eventually(t, soon, "all are ready", func() bool { return b.count() == 3 })
	front := &harness.Service{URL: address}
	l := startLoad(t, 6, 30*time.Millisecond, func(_ int, session string) (harness.Answer, error) {
		answer, err := front.Try("POST", "/token", "", "Authorization", "Bearer "+session)
		if err == nil && answer.Status == http.StatusBadGateway {
			err = errors.New("the balancer had an answer of its own")
		}
		return answer, err
	}, f.verify)
	took := l.enter()
	for i, s := range f.replicas {
		fresh := f.start(nil) // one more before one less
		b.add(t, fresh)
		harness.Eventually(t, soon, "the new one is ready", func() bool { return b.count() == 4 })
		s.Signal(syscall.SIGTERM)
		assert.Zero(t, s.Wait(30*time.Second), "a clean drain")
		assert.NotContains(t, s.Output(), "cut off")
		harness.Eventually(t, soon, "the old one is gone", func() bool { return b.count() == 3 })
		f.replicas[i] = fresh
	}
	assert.Empty(t, l.end())
	t.Logf("%v", took)
	assert.Greater(t, l.answers, 100)
	if f.redisErrors() > 0 {
		t.Log("on a machine this busy a replica went on without Redis: calls are not counted")
		return
	}
	for user, calls := range f.sethealth.State().Users {
		assert.Equal(t, 1, calls, "%s: new replicas find the tokens of the old ones in Redis", user)
	}
}
