package tokencache

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// lockLife is how long one replica has for its call before another one makes its own, and so what a
	// replica that died, or a foreign lock, can cost a request.
	lockLife = 3 * time.Second
	// pollMin is the least pause of a replica that waits for another one's token; the most is three times that.
	pollMin    = 25 * time.Millisecond
	storeTries = 3
	// tamperLogEvery bounds what somebody who can write to Redis can make the log say.
	tamperLogEvery = time.Minute
)

// dropScript deletes KEYS[1] if it still holds ARGV[1], or something that is no string.
const dropScript = `
local value = redis.pcall('GET', KEYS[1])
if value == ARGV[1] or type(value) == 'table' then return redis.call('DEL', KEYS[1]) end
return 0`

// shared is where replicas find each other's tokens. What Redis cannot do is done without it.
type shared struct {
	redis   *Redis
	log     *slog.Logger
	lastLog atomic.Int64 // Unix nanoseconds
}

func newShared(o Options) *shared { return &shared{redis: o.Redis, log: o.Logger} }

// find returns the user's token from Redis, the zero Token if there is none. If it has no more than need left,
// this replica is to request a new one: no other does, or that has taken too long, or Redis is unavailable.
func (s *shared) find(ctx context.Context, user sethealth.User, need time.Duration, rejected func(id string) bool) sethealth.Token {
	n, key := s.redis.entry("token", user.Key())
	found, err := s.get(ctx, n, key, rejected)
	if err != nil || found.Remaining(time.Now()) > need {
		return found
	}
	lock := n.key("lock", user.Key())
	for began := time.Now(); ; {
		locked := false
		commands, err := s.redis.do(ctx, opLock, func(pipe redis.Pipeliner) {
			pipe.SetNX(ctx, lock, "1", lockLife)
			pipe.Get(ctx, key) // after the lock: its holder stores the token before freeing it
		})
		if err == nil {
			locked = commands[0].(*redis.BoolCmd).Val()
			found = s.open(ctx, n, key, commands[1].(*redis.StringCmd), rejected)
		}
		enough := found.Remaining(time.Now()) > need
		if enough && locked {
			s.release(ctx, lock)
		}
		if err != nil || enough || locked || time.Since(began) > lockLife {
			return found
		}
		select {
		case <-time.After(pollMin + rand.N(2*pollMin)):
		case <-ctx.Done():
			return found
		}
		// From here on the wait is for the other replica and not for Redis.
		ctx = withFreshBudget(ctx)
	}
}

// get looks the user's token up. Its error is errRedis.
func (s *shared) get(ctx context.Context, n namespace, key string, rejected func(id string) bool) (sethealth.Token, error) {
	commands, err := s.redis.do(ctx, opGet, func(pipe redis.Pipeliner) { pipe.Get(ctx, key) })
	if err != nil {
		return sethealth.Token{}, err
	}
	return s.open(ctx, n, key, commands[0].(*redis.StringCmd), rejected), nil
}

// open reads an entry. What cannot be opened, or was rejected, is dropped.
func (s *shared) open(ctx context.Context, n namespace, key string, entry *redis.StringCmd, rejected func(id string) bool) sethealth.Token {
	data, err := entry.Result()
	if err == redis.Nil {
		return sethealth.Token{}
	}
	token, ok := n.open(key, data)
	if ok && !rejected(token.ID) {
		return token
	}
	if !ok {
		s.redis.tampered.Inc()
		now, last := time.Now().UnixNano(), s.lastLog.Load()
		if now-last > int64(tamperLogEvery) && s.lastLog.CompareAndSwap(last, now) {
			s.log.Warn("an entry in redis cannot be opened: it was damaged or tampered with, and is dropped")
		}
	}
	_, _ = s.redis.do(ctx, opDrop, func(pipe redis.Pipeliner) { pipe.Eval(ctx, dropScript, []string{key}, data) })
	return sethealth.Token{}
}

// publish stores a new token for the other replicas and frees the lock, without keeping the caller waiting.
func (s *shared) publish(user sethealth.User, token sethealth.Token, err error) {
	n, key := s.redis.entry("token", user.Key())
	lock, left := n.key("lock", user.Key()), token.Remaining(time.Now())
	s.redis.running.Go(func() {
		ctx := context.Background()
		if err != nil || left <= 0 { // or its end is not known
			s.release(ctx, lock)
			return
		}
		for range storeTries { // nobody waits here, but other replicas do
			if _, err := s.redis.do(ctx, opStore, func(pipe redis.Pipeliner) {
				pipe.Set(ctx, key, n.seal(key, token), left)
				pipe.Del(ctx, lock)
			}); err == nil {
				return
			}
		}
	})
}

// release frees a lock of any holder: at worst, that costs one more call to Sethealth.
func (s *shared) release(ctx context.Context, lock string) {
	_, _ = s.redis.do(ctx, opRelease, func(pipe redis.Pipeliner) { pipe.Del(ctx, lock) })
}

// drop deletes the user's token, if it has that ID or if id is empty.
func (s *shared) drop(ctx context.Context, user sethealth.User, id string) {
	n, key := s.redis.entry("token", user.Key())
	_, _ = s.get(ctx, n, key, func(found string) bool { return id == "" || found == id })
}
