package tokencache

import (
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// The scripts. KEYS[1] is the user's token, KEYS[2] the lock on its minting.
const (
	// lookScript gives the token if it lives longer than ARGV[1] ms, else tries for the lock ARGV[2] too.
	// In one step and one round trip: between a look and a lock nobody else can mint. A lock that it has
	// already, from a look whose answer was lost, is its own; one that lives longer than ARGV[4] ms is nobody's.
	// What is of another type is dropped here, and given as a token that nobody can open.
	lookScript = `
local value = redis.pcall('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if not value then
  value = ''
elseif type(value) ~= 'string' then
  redis.call('DEL', KEYS[1])
  value, left = '?', -1
end
if value ~= '' and left > tonumber(ARGV[1]) then return {value, left, 0} end
local got = redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3])
if not got then
  local life = redis.call('PTTL', KEYS[2])
  if life < 0 or life > tonumber(ARGV[4]) then
    got = redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
  else
    got = redis.pcall('GET', KEYS[2]) == ARGV[2]
  end
end
return {value, left, got and 1 or 0}`
	// storeScript stores the token ARGV[1] for ARGV[2] ms and gives up the lock ARGV[3].
	storeScript = `
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if redis.pcall('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
return 1`
	// renewScript lets the lock ARGV[1] live for another ARGV[2] ms.
	renewScript = `
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0`
	// dropScript deletes KEYS[1] if it still holds ARGV[1].
	dropScript = `
if redis.pcall('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`
)

// place is where a user's token lies under the current account.
type place struct {
	user        string
	keys        *redisx.Keys
	token, lock string // names in Redis
	mark        string // by which the lock's holder knows it as its own
}

func (s *Shared) place(user string) *place {
	keys := s.space.Keys()
	return &place{
		user: user, keys: keys, mark: rand.Text(),
		token: keys.Name("token", user), lock: keys.Name("lock", user),
	}
}

// content is what lies in Redis, sealed. Where it lies says whose it is.
type content struct {
	Token   string `json:"token"`
	Hash    string `json:"hash"`
	Expires int64  `json:"expires"` // Unix nanoseconds
}

func (p *place) seal(token sethealth.Token) []byte {
	plain, err := json.Marshal(content{token.Value.Reveal(), token.Hash, token.Expires.UnixNano()})
	if err != nil {
		panic(err) // two strings and a number
	}
	return p.keys.Seal(p.token, plain)
}

// open reads what lies in Redis with that much of its life left there.
func (p *place) open(data string, left time.Duration) (sethealth.Token, bool) {
	plain, err := p.keys.Open(p.token, []byte(data))
	if data == "" || err != nil {
		return sethealth.Token{}, false
	}
	var t content
	if json.Unmarshal(plain, &t) != nil {
		return sethealth.Token{}, false
	}
	// By three clocks, this replica's, the minting one's and Redis' own, the earliest end.
	now, expires := time.Now(), time.Unix(0, t.Expires)
	if left < expires.Sub(now) {
		expires = now.Add(left).Round(0)
	}
	return sethealth.Token{
		Value: secret.New(t.Token), Expires: expires, Hash: t.Hash, Account: p.keys.Account, Source: sethealth.Shared,
	}, true
}

// readLook takes the answer of lookScript apart. An answer of another shape is an empty one.
func readLook(answer any) (data string, left time.Duration, locked bool) {
	parts, _ := answer.([]any)
	if len(parts) != 3 {
		return "", 0, false
	}
	data, _ = parts[0].(string)
	ms, _ := parts[1].(int64)
	got, _ := parts[2].(int64)
	return data, time.Duration(ms) * time.Millisecond, got == 1
}
