package tokencache

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

const (
	// lockLife is how long one replica has for its call before another makes its own, and so how long a replica
	// that died, or a foreign lock, can delay a request.
	lockLife = 3 * time.Second
	// pollMax is the longest pause between lookups of a token that another replica is requesting.
	pollMax    = 100 * time.Millisecond
	storeTries = 3
	// tamperLogEvery limits the log lines that anyone with write access to Redis can cause.
	tamperLogEvery = time.Minute
)

// dropScript deletes KEYS[1] if it still holds ARGV[1], or something that is not a string.
const dropScript = `
local value = redis.pcall('GET', KEYS[1])
if value == ARGV[1] or type(value) == 'table' then return redis.call('DEL', KEYS[1]) end
return 0`

// find returns the user's token from Redis, or the zero Token. If it has no more than need left, this replica has
// to request a new one: no other replica does, or it has taken too long, or Redis is unavailable.
func (r *Redis) find(ctx context.Context, user sethealth.User, need time.Duration, rejected func(id string) bool) sethealth.Token {
	n, owner := r.namespace(), user.Key()
	key, lock := n.key("token", owner), n.key("lock", owner)
	found, ok := r.get(ctx, n, key, rejected)
	enough := func() bool { return found.Remaining(time.Now()) > need }
	if !ok || enough() {
		return found
	}
	for began := time.Now(); ; {
		commands, err := r.do(ctx, "lock", func(pipe redis.Pipeliner) {
			pipe.SetNX(ctx, lock, "1", lockLife)
			pipe.Get(ctx, key) // after the lock: its holder stores the token before freeing it
		})
		if err != nil {
			return found
		}
		found = r.open(ctx, n, key, commands[1].(*redis.StringCmd), rejected)
		locked := commands[0].(*redis.BoolCmd).Val()
		if locked && enough() {
			r.release(ctx, lock)
		}
		if locked || enough() || time.Since(began) > lockLife {
			return found
		}
		select {
		case <-time.After(rand.N(pollMax)):
		case <-ctx.Done():
			return found
		}
		// From here on, the request waits for the other replica and not for Redis.
		ctx = WithRedisBudget(ctx)
	}
}

// get returns the token of an entry, and reports whether Redis answered.
func (r *Redis) get(ctx context.Context, n *namespace, key string, rejected func(id string) bool) (sethealth.Token, bool) {
	commands, err := r.do(ctx, "get", func(pipe redis.Pipeliner) { pipe.Get(ctx, key) })
	if err != nil {
		return sethealth.Token{}, false
	}
	return r.open(ctx, n, key, commands[0].(*redis.StringCmd), rejected), true
}

// open returns the token of an entry. An entry that cannot be opened, or was rejected, is dropped.
func (r *Redis) open(ctx context.Context, n *namespace, key string, entry *redis.StringCmd, rejected func(id string) bool) sethealth.Token {
	data, err := entry.Result()
	if err == redis.Nil {
		return sethealth.Token{}
	}
	token, ok := n.open(key, data)
	if ok && !rejected(token.ID) {
		return token
	}
	if !ok {
		r.tampered.Inc()
		r.tamperLog.Do(func() {
			r.deps.Logger.Warn("an entry in redis cannot be opened: it was damaged or tampered with, and is dropped")
		})
	}
	_, _ = r.do(ctx, "drop", func(pipe redis.Pipeliner) { pipe.Eval(ctx, dropScript, []string{key}, data) })
	return sethealth.Token{}
}

// publish stores a new token for the other replicas, if its expiry is known, and releases the lock. It does not
// block.
func (r *Redis) publish(user sethealth.User, token sethealth.Token) {
	n, owner, left := r.namespace(), user.Key(), token.Remaining(time.Now())
	key, lock := n.key("token", owner), n.key("lock", owner)
	r.running.Go(func() {
		ctx := context.Background()
		if left <= 0 {
			r.release(ctx, lock)
			return
		}
		for range storeTries { // because other replicas wait for the token
			if _, err := r.do(ctx, "store", func(pipe redis.Pipeliner) {
				pipe.Set(ctx, key, n.seal(key, token), left)
				pipe.Del(ctx, lock)
			}); err == nil {
				return
			}
		}
	})
}

// release frees a lock, even one that another replica holds: at worst, that costs one more call to Sethealth.
func (r *Redis) release(ctx context.Context, lock string) {
	_, _ = r.do(ctx, "release", func(pipe redis.Pipeliner) { pipe.Del(ctx, lock) })
}

// drop deletes the user's token, if it has that ID or if id is empty.
func (r *Redis) drop(ctx context.Context, user sethealth.User, id string) {
	n := r.namespace()
	r.get(ctx, n, n.key("token", user.Key()), func(found string) bool { return id == "" || found == id })
}
