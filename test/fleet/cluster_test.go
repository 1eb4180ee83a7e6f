package fleet_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/harness"
)

// newCluster is a Redis Cluster of three nodes, and a URL that names them all.
func newCluster(t testing.TB) (nodes []*redistest.Server, url string) {
	t.Helper()
	var buses []string
	for range 3 {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		_, bus, err := net.SplitHostPort(free.Addr().String())
		require.NoError(t, err)
		require.NoError(t, free.Close())
		nodes = append(nodes, redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", bus))
		buses = append(buses, bus)
	}
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		nodes[i].Do("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
		host, port, err := net.SplitHostPort(nodes[i].Addr)
		require.NoError(t, err)
		nodes[0].Do("CLUSTER", "MEET", host, port, buses[i])
	}
	for _, node := range nodes {
		harness.Eventually(t, soon, "the cluster is whole", func() bool {
			info := node.Do("CLUSTER", "INFO").(string)
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return nodes, nodes[0].URL() + "?addr=" + nodes[1].Addr + "&addr=" + nodes[2].Addr
}

func TestAClusterSharesTokensAndLimitsToo(t *testing.T) {
	t.Parallel()
	nodes, url := newCluster(t)
	f := newFleet(t, nodes[0], 2, "REDIS_URL", strings.Replace(url, "/0?", "?", 1), "RATE_LIMIT", "2/1h")
	const users = 30
	tokens := func() (n int) {
		for _, node := range nodes {
			for name := range node.Dump() {
				if strings.HasSuffix(name, ":token") {
					n++
				}
			}
		}
		return n
	}
	for i := range users {
		requireServed(t, f.sethealth, f.replicas[0], fmt.Sprintf("user-%d", i))
	}
	harness.Eventually(t, soon, "all tokens lie there", func() bool { return tokens() == users })
	for _, node := range nodes {
		assert.NotEmpty(t, node.Dump(), "each node has its share")
	}
	for i := range users {
		user := fmt.Sprintf("user-%d", i)
		answer := requireServed(t, f.sethealth, f.replicas[1], user)
		assert.Equal(t, "shared", f.replicas[1].Record(answer)["source"])
		assert.Equal(t, "rate_limited", f.replicas[i%2].Ask(harness.Session(t, user)).Code())
	}
	assert.Equal(t, users, f.sethealth.Calls())
	for _, s := range f.replicas {
		assert.Empty(t, changes(s))
		assert.Zero(t, s.Metric("tokenvend_redis_errors_total"))
	}
	assert.Equal(t, "redis: ok", lineOf(harness.Run(t, f.env, "check").Stdout, "redis: "))
}

// It would serve some users' entries and refuse those of the others.
func TestOneNodeOfAClusterIsNotTakenForAServer(t *testing.T) {
	t.Parallel()
	nodes, _ := newCluster(t)
	sethealth := harness.NewSethealth(t)
	for _, node := range nodes {
		env := sethealth.Env().With(harness.Env{"TOKEN_CACHE": "redis", "REDIS_URL": node.URL()})
		line := lineOf(harness.Run(t, env, "check").Stdout, "redis: ")
		assert.Contains(t, line, "one node of a cluster")
		assert.Contains(t, line, "?addr=")
		s := harness.Start(t, env)
		waitFor(t, s, false)
		for i := range 10 {
			requireServed(t, sethealth, s, fmt.Sprintf("user-%d", i))
		}
		assert.Equal(t, []string{"ill"}, changes(s))
	}
}
