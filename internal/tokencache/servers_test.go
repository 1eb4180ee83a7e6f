package tokencache_test

import (
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
)

// startCluster runs a Redis Cluster of three nodes until the test ends, and returns a URL that names them all.
func startCluster(t *testing.T) (nodes []*redistest.Server, url string) {
	t.Helper()
	var buses []string
	for range 3 {
		bus := testkit.FreePort(t)
		nodes, buses = append(nodes, redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", bus)), append(buses, bus)
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		nodes[i].Do("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
		host, port, _ := net.SplitHostPort(nodes[i].Addr)
		nodes[0].Do("CLUSTER", "MEET", host, port, buses[i])
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(nodes, func(node *redistest.Server) bool {
			info := node.Do("CLUSTER", "INFO").(string)
			return !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:3")
		})
	}, 2*soon, 5*time.Millisecond, "the cluster does not come up")
	return nodes, "redis://" + nodes[0].Addr + "?addr=" + nodes[1].Addr + "&addr=" + nodes[2].Addr
}

// slowly returns the URL of a proxy that delays every answer of the server by d.
func slowly(t *testing.T, server *redistest.Server, d time.Duration) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		for client, err := listener.Accept(); err == nil; client, err = listener.Accept() {
			redis, err := net.Dial("tcp", server.Addr)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { defer redis.Close(); _, _ = io.Copy(redis, client) })
			running.Go(func() { defer client.Close(); _, _ = io.Copy(client, slow{redis, d}) })
		}
	})
	return "redis://" + listener.Addr().String() + "/0"
}

type slow struct {
	net.Conn
	by time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	time.Sleep(s.by)
	return n, err
}
