package tokencache

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// limitScript is the generic cell rate algorithm by the server's clock, in microseconds. KEYS[1] holds the time
// at which the user's burst is full again; ARGV are the interval that a request uses up and the burst. It returns
// how long to wait. A value that this limit cannot have written, such as a time after a full burst, is ignored,
// so that it refuses nobody.
const limitScript = `
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat = redis.pcall('GET', KEYS[1])
tat = type(tat) == 'string' and tonumber(tat)
if not (tat and tat > now and tat <= now + burst) then tat = now end
tat = tat + interval
local wait = tat - now - burst
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000))
return 0`

// Allow counts one request, which uses up interval of burst, against a limit that all replicas share. It returns
// how long the request has to wait; 0 if it is allowed now. An error means that Redis cannot decide.
func (r *Redis) Allow(ctx context.Context, user sethealth.User, interval, burst time.Duration) (wait time.Duration, err error) {
	name := r.namespace().key("limit", user.Key())
	commands, err := r.do(ctx, "limit", func(pipe redis.Pipeliner) { queueLimit(pipe, name, interval, burst) })
	if err != nil {
		return 0, err
	}
	µs, err := commands[0].(*redis.Cmd).Int64()
	if err != nil {
		return 0, errRedis
	}
	return time.Duration(µs) * time.Microsecond, nil
}

// queueLimit sends the text of the script each time: its hash would be SHA-1, which FIPS-only mode forbids.
func queueLimit(pipe redis.Pipeliner, key string, interval, burst time.Duration) {
	pipe.Eval(context.Background(), limitScript, []string{key}, interval.Microseconds(), burst.Microseconds())
}
