package tokencache

import (
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// Config configures the cache.
type Config struct {
	Cache    string        `envconfig:"TOKEN_CACHE" group:"Tokens" default:"memory" desc:"where tokens are kept: memory, redis (shared by replicas, with the rate limit), off"`
	Size     int           `envconfig:"TOKEN_CACHE_SIZE" group:"Tokens" default:"100000" desc:"tokens kept in memory, at most"`
	MinLife  time.Duration `envconfig:"TOKEN_MIN_LIFE" group:"Tokens" shown:"a quarter of TOKEN_TTL" desc:"a cached token with less time left is replaced before it is issued"`
	RedisURL secret.Source `envconfig:"REDIS_URL" group:"Tokens" desc:"redis:// or rediss:// URL, for TOKEN_CACHE=redis"`
}

// Validate reports every invalid variable. It sets MinLife to its default, which depends on the tokens' lifetime.
func (c *Config) Validate(ttl time.Duration) error {
	var p setting.Problems
	switch {
	case c.MinLife == 0:
		c.MinLife = ttl / 4
	case c.MinLife < 0, ttl > 0 && c.MinLife >= ttl:
		p.Add("TOKEN_MIN_LIFE", "must be positive and below TOKEN_TTL")
	}
	p.OneOf("TOKEN_CACHE", c.Cache, "memory", "redis", "off")
	if c.Size < 1 || c.Size > 100_000_000 {
		p.Add("TOKEN_CACHE_SIZE", "must be from 1 to 100000000")
	}
	switch {
	case c.RedisURL.IsSet() && (c.Cache == "redis" || p.Has("TOKEN_CACHE")):
		if _, err := parseURL(c.RedisURL.Get().Reveal()); err != nil {
			p.Add(c.RedisURL.Name(), "%s", err)
		}
	case c.Cache == "redis":
		p.Required("REDIS_URL", "a redis:// or rediss:// URL, for TOKEN_CACHE=redis")
	}
	return p.Err()
}
