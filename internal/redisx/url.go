package redisx

import (
	"errors"
	"net/url"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sethealth/tokenvend/internal/secret"
)

// errURL is all that is said of a bad URL: go-redis' own errors repeat parts of it, the password included.
var errURL = errors.New("must be redis://[user:password@]host[:port][/db] or rediss://…, with ?addr=host:port for more nodes of a cluster or ?master_name=… for Sentinel")

const (
	// A connection for each sender, and as many for those that are being replaced.
	connections = 2 * senders
	// A dial goes on behind the request that began it, so that it may take longer than one may wait.
	dialTime = 2 * time.Second
	// Our commands and answers are some hundred bytes; go-redis' own buffers take 64 KiB a connection.
	bufferSize = 4 << 10
)

// connect makes a client for a URL. It does not reach out.
func connect(v secret.Value) (redis.UniversalClient, error) {
	o, err := parse(v.Reveal())
	if err != nil {
		return nil, errURL
	}
	o.ContextTimeoutEnabled = true
	o.MaxRetries, o.DialerRetries = -1, 1
	o.DialTimeout = dialTime
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = ioTimeout, ioTimeout, ioTimeout
	o.PoolSize, o.MaxActiveConns, o.PipelinePoolSize = connections, connections, -1
	o.ReadBufferSize, o.WriteBufferSize = bufferSize, bufferSize
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return redis.NewUniversalClient(o), nil
}

// parse reads a URL of the three kinds that go-redis knows. Its time-outs and pool sizes are accepted and
// not used: ours are what the service promises.
func parse(raw string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Host == "" {
		return nil, errURL
	}
	switch query := u.Query(); {
	case query.Has("master_name"):
		o, err := redis.ParseFailoverURL(raw)
		if err != nil {
			return nil, err
		}
		return &redis.UniversalOptions{
			MasterName: o.MasterName, Addrs: o.SentinelAddrs, DB: o.DB, TLSConfig: o.TLSConfig,
			SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
			Username: o.Username, Password: o.Password, Protocol: o.Protocol, ClientName: o.ClientName,
		}, nil
	case query.Has("addr"):
		o, err := redis.ParseClusterURL(raw)
		if err != nil {
			return nil, err
		}
		return &redis.UniversalOptions{
			Addrs: o.Addrs, IsClusterMode: true, TLSConfig: o.TLSConfig,
			Username: o.Username, Password: o.Password, Protocol: o.Protocol, ClientName: o.ClientName,
		}, nil
	default:
		o, err := redis.ParseURL(raw)
		if err != nil {
			return nil, err
		}
		return &redis.UniversalOptions{
			Addrs: []string{o.Addr}, DB: o.DB, TLSConfig: o.TLSConfig,
			Username: o.Username, Password: o.Password, Protocol: o.Protocol, ClientName: o.ClientName,
		}, nil
	}
}

// ValidURL says what a REDIS_URL must be, if v is none. It never repeats v.
func ValidURL(v secret.Value) error {
	if _, err := parse(v.Reveal()); err != nil {
		return errURL
	}
	return nil
}
