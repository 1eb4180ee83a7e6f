package tokencache

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sethealth/tokenvend/internal/outgoing"
	"github.com/sethealth/tokenvend/internal/secret"
)

const (
	// Less than redisBudget, so that a wait for a free connection can be told from one for Redis.
	poolTimeout = 80 * time.Millisecond
	// In a burst, a few connections carry more than many that must be opened first.
	connections = 8
	// Connections are renewed, so that a changed DNS name is followed.
	connectionAge = 4 * time.Minute
	// Dialing continues without the request that started it, so it may take longer than a request may wait.
	dialTimeout = 2 * time.Second
	// Commands and answers are a few hundred bytes; by default, go-redis uses 64 KiB for each connection.
	bufferSize = 4 << 10
)

var (
	// errURL replaces errors of go-redis, which repeat parts of the URL, including the password.
	errURL    = errors.New("must be redis://[user:password@]host[:port][/db] or rediss://…, with ?addr=host:port for more nodes of a cluster or ?master_name=… for Sentinel")
	errServer = errors.New("names another server; only a new user and password take effect without a restart")
)

// connectOptions returns the options for the server of a URL. Each new connection signs in with the user and
// password that the URL holds at that time.
func connectOptions(current secret.Source) (*redis.UniversalOptions, error) {
	start := current.Get().Reveal()
	o, err := parseURL(start)
	if err != nil {
		return nil, err
	}
	current.SetValidator(func(content string) error {
		if _, err := parseURL(content); err != nil {
			return err
		}
		if withoutUser(content) != withoutUser(start) {
			return errServer
		}
		return nil
	})
	o.CredentialsProviderContext = func(context.Context) (user, password string, err error) {
		now, err := parseURL(current.Get().Reveal())
		if err != nil {
			return "", "", err
		}
		return now.Username, now.Password, nil
	}
	// With the defaults, a request would wait 5 s for a server that hangs.
	o.ContextTimeoutEnabled = true
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = dialTimeout, commandTimeout, commandTimeout
	o.PoolTimeout = poolTimeout
	o.PoolSize, o.MaxActiveConns, o.PipelinePoolSize = connections, connections, -1
	o.ConnMaxLifetime = connectionAge
	o.ReadBufferSize, o.WriteBufferSize = bufferSize, bufferSize
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

func withoutUser(raw string) string {
	u, _ := url.Parse(raw) // which parseURL has accepted
	u.User = nil
	return u.String()
}

// parseURL parses the URL of a server, a cluster or a Sentinel group. Time-outs and pool sizes in it are ignored:
// the service has made promises about its own.
func parseURL(raw string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Host == "" {
		return nil, errURL
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(raw)
		if err != nil {
			return nil, errURL
		}
		return &redis.UniversalOptions{
			MasterName: o.MasterName, Addrs: o.SentinelAddrs, DB: o.DB, TLSConfig: o.TLSConfig,
			SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
			Username: o.Username, Password: o.Password, Protocol: o.Protocol, ClientName: o.ClientName,
		}, nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(raw)
		if err != nil {
			return nil, errURL
		}
		return &redis.UniversalOptions{
			Addrs: o.Addrs, IsClusterMode: true, TLSConfig: o.TLSConfig,
			Username: o.Username, Password: o.Password, Protocol: o.Protocol, ClientName: o.ClientName,
		}, nil
	default:
		o, err := redis.ParseURL(raw)
		if err != nil {
			return nil, errURL
		}
		return &redis.UniversalOptions{
			Addrs: []string{o.Addr}, DB: o.DB, TLSConfig: o.TLSConfig,
			Username: o.Username, Password: o.Password, Protocol: o.Protocol, ClientName: o.ClientName,
		}, nil
	}
}

// replies are the errors of a server that an operator can fix, by how they begin, and what to do. The errors are
// not shown: they may hold addresses and names.
var replies = []struct{ code, reason string }{
	{"WRONGPASS", "wrong user or password: correct them in REDIS_URL"},
	{"NOAUTH", "a password is needed: put user and password into REDIS_URL"},
	{"NOPERM", notAllowed},
	{"ACL failure in script", notAllowed},
	{"The user executing the script", notAllowed}, // before Redis 7.2
	{"DB index", "no database of that number: correct the number at the end of REDIS_URL"},
	{"MOVED", "one node of a cluster: name the cluster's nodes in REDIS_URL, redis://host:port?addr=host:port"},
	{"OOM", "out of memory: raise its maxmemory, or let it evict keys (maxmemory-policy volatile-ttl)"},
	{"READONLY", "a read-only replica: point REDIS_URL at the primary"},
	{"LOADING", "still loading its data: wait until it is done"},
	{"MISCONF", "refuses writes because it cannot save to disk: fix its persistence"},
	{"MASTERDOWN", "a replica that lost its primary: bring the primary back"},
	{"CLUSTERDOWN", "the cluster is down"},
}

const notAllowed = "the user lacks permissions: allow it EVAL, GET, SET, DEL and TIME on the keys tokenvend:*, with SELECT for a database other than 0 and CLUSTER SLOTS for a cluster"

func explainRedis(ctx context.Context, err error) error {
	reply, ok := errors.AsType[redis.Error](err)
	if !ok {
		failure := outgoing.Explain(ctx, err, "no valid answer: check that it speaks the Redis protocol")
		if failure.Timeout {
			return errors.New("no answer in time: check that it runs, that it speaks TLS if REDIS_URL begins with rediss, and that no firewall blocks it")
		}
		return fmt.Errorf("%w; check REDIS_URL and the outbound firewall", failure)
	}
	text := strings.TrimPrefix(reply.Error(), "ERR ")
	for _, r := range replies {
		// Redis 6 puts words of its own before the error of a script.
		if strings.HasPrefix(text, r.code) || strings.Contains(text, ": "+r.code+" ") || strings.Contains(text, "-"+r.code+" ") {
			return errors.New(r.reason)
		}
	}
	return errors.New("it answers with an error: it must be Redis 6, Valkey or newer, and allow scripts")
}
