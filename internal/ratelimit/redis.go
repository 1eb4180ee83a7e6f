package ratelimit

import (
	"context"
	"time"

	"github.com/sethealth/tokenvend/internal/redisx"
)

// script is [Rule.next] with the server's own clock, so that replicas need not agree on the time. A Lua
// number holds microseconds since 1970 exactly until the year 2255. ARGV: interval and window in µs.
//
// A debt beyond the window comes from another rule, or from a clock that was set back or lost in a failover.
// The window that is left of it is written down, or it would be too far ahead at the next request too.
const script = `
local interval, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tat = redis.pcall('GET', KEYS[1])
tat = type(tat) == 'string' and tonumber(tat) or now
if tat ~= tat then tat = now end
local function keep(t) redis.call('SET', KEYS[1], string.format('%.0f', t), 'PX', math.ceil((t - now) / 1000)) end
if tat > now + window then
  tat = now + window
  keep(tat)
end
tat = math.max(tat, now) + interval
local wait = tat - now - window
if wait > 0 then return wait end
keep(tat)
return 0`

// redisLimit is the limit of all replicas on one Redis.
type redisLimit struct {
	space  *redisx.Space
	script *redisx.Script
}

// NewRedis is a [Shared] limit on Redis. Users are not named there.
func NewRedis(client *redisx.Client, space *redisx.Space) Shared {
	return &redisLimit{space: space, script: client.Script("limit", script)}
}

func (r *redisLimit) Allow(ctx context.Context, user string, rule Rule) (time.Duration, error) {
	key := r.space.Keys().Name("limit", user)
	answer, err := r.script.Run(ctx, []string{key}, rule.Interval.Microseconds(), rule.Window.Microseconds())
	if err != nil {
		return 0, err
	}
	wait, ok := answer.(int64)
	if !ok {
		return 0, redisx.ErrUnavailable
	}
	return time.Duration(wait) * time.Microsecond, nil
}
