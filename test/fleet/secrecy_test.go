package fleet_test

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestADumpOfTheDatabaseHoldsNothingReadable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--rdbcompression", "no", "--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000")
	f := newFleet(t, server, 2)
	// In the middle of the mints too, when locks lie there.
	f.sethealth.Set(faults.Faults{Delay: 1500 * time.Millisecond})
	var all sync.WaitGroup
	var mu sync.Mutex
	never := f.secrets()
	for i := range 20 {
		user := fmt.Sprintf("canary.%d@clinic.example", i)
		session := harness.Session(t, user)
		never = append(never, user, session)
		all.Go(func() {
			answer, err := f.replicas[i%2].Try("POST", "/token", "", "Authorization", "Bearer "+session)
			if assert.NoError(t, err) && assert.Equal(t, 200, answer.Status) {
				mu.Lock()
				defer mu.Unlock()
				never = append(never, answer.Token())
			}
		})
	}
	harness.Eventually(t, soon, "the locks", func() bool { return len(f.keys(":lock")) == 20 })
	middle := f.dump()
	all.Wait()
	f.settled(20)
	dump := middle + f.dump()
	assert.GreaterOrEqual(t, strings.Count(dump, "tokenvend:"), 60, "the dump holds the entries")
	for _, word := range never {
		for as, form := range formsOf(word) {
			require.NotContains(t, dump, form, "%s, %s", word, as)
		}
	}
	for _, word := range []string{"expires", "account", "clinic", "canary", "sethealth", `"token"`, "eyJ"} {
		assert.NotContains(t, dump, word)
	}
}

// secrets are what must never be read in the database, but for users and tokens.
func (f *fleet) secrets() []string {
	account := sethealth.NewCredentials(secret.Static("k", secret.New(harness.Key)), secret.Static("s", secret.New(harness.Secret)))
	host := strings.TrimPrefix(f.sethealth.URL, "http://")
	return []string{
		harness.Key, harness.Secret, harness.SessionSecret, harness.Audience, host,
		account.Account(), account.Pseudonym("canary.0@clinic.example"),
	}
}

// formsOf are ways to write a word that a reader would undo, and hashes that a reader would guess.
func formsOf(word string) map[string]string {
	md, sha, sha2 := md5.Sum([]byte(word)), sha1.Sum([]byte(word)), sha256.Sum256([]byte(word))
	forms := map[string]string{
		"as it is": word, "in hex": hex.EncodeToString([]byte(word)),
		"its MD5": hex.EncodeToString(md[:]), "its SHA-1": hex.EncodeToString(sha[:]),
		"its SHA-256": hex.EncodeToString(sha2[:])[:16], "its SHA-256 in bytes": string(sha2[:8]),
	}
	for as, encoding := range map[string]*base64.Encoding{"in base64": base64.RawStdEncoding, "in base64 for URLs": base64.RawURLEncoding} {
		forms[as] = encoding.EncodeToString([]byte(word))
	}
	if raw, err := base64.RawURLEncoding.DecodeString(word); err == nil && len(raw) > 16 {
		forms["decoded"] = string(raw)
	}
	return forms
}

// dump is everything that can be got out of the database: names, values, their serialized form, the file
// that it saves, and the commands that it has noted. It holds each key to expire.
func (f *fleet) dump() string {
	f.t.Helper()
	client, ctx := f.client(), f.t.Context()
	defer client.Close()
	var all strings.Builder
	for _, name := range f.keys("") {
		life, err := client.PTTL(ctx, name).Result()
		require.NoError(f.t, err)
		if life == -2 { // it has just ended
			continue
		}
		assert.Positive(f.t, life, "%s expires", name)
		assert.LessOrEqual(f.t, life, time.Hour, "%s expires in time", name)
		value, _ := client.Get(ctx, name).Result()
		serialized, _ := client.Dump(ctx, name).Result()
		fmt.Fprintln(&all, name, value, serialized)
	}
	require.NoError(f.t, client.Save(ctx).Err())
	dir, err := client.ConfigGet(ctx, "dir").Result()
	require.NoError(f.t, err)
	saved, err := os.ReadFile(filepath.Join(dir["dir"], "dump.rdb"))
	require.NoError(f.t, err)
	require.Contains(f.t, string(saved), "tokenvend:")
	all.Write(saved)
	noted, err := client.SlowLogGet(ctx, -1).Result()
	require.NoError(f.t, err)
	for _, entry := range noted {
		if entry.Args[0] == "evalsha" { // and not the texts of the scripts
			fmt.Fprintln(&all, entry.Args)
		}
	}
	return all.String()
}

func TestWhatDiffersInAccountOrSettingsSharesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, redistest.Start(t), 1, "RATE_LIMIT", "2/1h")
	requireServed(t, f.sethealth, f.replicas[0], "alice")
	f.settled(1)
	same := f.start(nil)
	answer := requireServed(t, f.sethealth, same, "alice")
	require.Equal(t, "shared", same.Record(answer)["source"], "the same account and settings share")
	require.Equal(t, "rate_limited", same.Ask(harness.Session(t, "alice")).Code())

	const key, value = "canary-key-other-0c41", "canary-secret-other-9d2e"
	for name, more := range map[string]harness.Env{
		"another account":                       {"SETHEALTH_KEY": key, "SETHEALTH_SECRET": value},
		"another account with the same secret":  {"SETHEALTH_KEY": key},
		"another secret of the same account":    {"SETHEALTH_SECRET": value},
		"another life of tokens":                {"TOKEN_TTL": "30m"},
		"another way to name users":             {"TOKEN_USER_ID": "hashed"},
		"test mode":                             {"SETHEALTH_TEST_MODE": "true"},
		"no names of users at all at Sethealth": {"TOKEN_USER_ID": "none"},
	} {
		env := f.env.With(more)
		f.sethealth.SetCredentials(secret.New(env["SETHEALTH_KEY"]), secret.New(env["SETHEALTH_SECRET"]))
		calls, tokens := f.sethealth.Calls(), len(f.keys(":token"))
		other := f.start(more)
		answer := other.Ask(harness.Session(t, "alice"))
		require.Equal(t, "ok", answer.Code(), "%s: %s", name, answer.Body)
		assert.Equal(t, "minted", other.Record(answer)["source"], name)
		assert.Equal(t, calls+1, f.sethealth.Calls(), name)
		f.settled(tokens + 1)
		assert.Zero(t, other.Metric("tokenvend_shared_tampered_total"), name)
		other.Stop()
	}
}

func TestARotatedSecretMovesToANewNamespaceAtOnce(t *testing.T) {
	t.Parallel()
	const next = "canary-secret-next-5b7a"
	file := filepath.Join(t.TempDir(), "secret")
	write := func(content string) { require.NoError(t, os.WriteFile(file, []byte(content), 0o600)) }
	write(harness.Secret)
	server := redistest.Start(t)
	f := &fleet{t: t, redis: server, sethealth: harness.NewSethealth(t)}
	f.env = f.sethealth.Env().With(harness.Env{
		"TOKEN_CACHE": "redis", "REDIS_URL": server.URL(), "SETHEALTH_SECRET": "-", "SETHEALTH_SECRET_FILE": file,
	})
	f.replicas = []*harness.Service{f.start(nil), f.start(nil)}
	old := requireServed(t, f.sethealth, f.replicas[0], "alice")
	f.settled(1)
	before := f.keys(":token")

	// Sethealth refuses the old secret, so that the file is read at once.
	f.sethealth.SetCredentials(secret.New(harness.Key), secret.New(next))
	write(next)
	for i, s := range f.replicas {
		requireServed(t, f.sethealth, s, fmt.Sprintf("first-%d", i))
	}
	f.sethealth.Emulator.Reset()
	first := requireServed(t, f.sethealth, f.replicas[1], "alice")
	assert.NotEqual(t, old.Token(), first.Token(), "neither from Redis, where it still lies, nor from memory")
	assert.Equal(t, "minted", f.replicas[1].Record(first)["source"])
	harness.Eventually(t, soon, "the new token lies in redis", func() bool {
		return len(otherNamespace(f.keys(":token"), before[0])) > 0
	})
	second := requireServed(t, f.sethealth, f.replicas[0], "alice")
	assert.Equal(t, first.Token(), second.Token())
	assert.Equal(t, "shared", f.replicas[0].Record(second)["source"])
	assert.Equal(t, 1, f.sethealth.Calls())
	for _, s := range f.replicas {
		assert.Zero(t, s.Metric("tokenvend_shared_tampered_total"), "the old entries are not met")
	}
}

// otherNamespace are the names that do not begin as one does.
func otherNamespace(names []string, as string) (other []string) {
	prefix, _, _ := strings.Cut(as, "{")
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			other = append(other, name)
		}
	}
	return other
}

func TestWhateverIsTamperedWithIsAMissAndNoFailedRequest(t *testing.T) {
	t.Parallel()
	const users = 12
	f := newFleet(t, redistest.Start(t), 1)
	client, ctx := f.client(), t.Context()
	defer client.Close()
	for i := range users {
		requireServed(t, f.sethealth, f.replicas[0], fmt.Sprintf("user-%d", i))
	}
	f.settled(users)
	names := f.keys("")
	for i, name := range names {
		value, err := client.Get(ctx, name).Bytes()
		if err != nil { // gone meanwhile
			continue
		}
		at := 0
		if strings.HasSuffix(name, ":token") {
			at = i * len(value) / len(names) // the nonce, the text, the tag
		}
		value[at] ^= 1
		_, err = client.Set(ctx, name, value, -1).Result() // its life stays
		require.NoError(t, err)
	}
	f.sethealth.Emulator.Reset()
	late := f.start(nil)
	for i := range users {
		answer := requireServed(t, f.sethealth, late, fmt.Sprintf("user-%d", i))
		assert.Equal(t, "minted", late.Record(answer)["source"])
	}
	assert.Equal(t, users, f.sethealth.Calls())
	assert.EqualValues(t, users, late.Metric("tokenvend_shared_tampered_total"))
	assert.Equal(t, 1, strings.Count(late.Output(), "an entry in redis cannot be opened"))
	assert.Equal(t, 1.0, late.Metric("tokenvend_redis_up"))
	assert.Empty(t, changes(late))

	f.settled(users)
	harness.Eventually(t, soon, "a third replica shares what was mended", func() bool {
		third := f.start(nil)
		answer := requireServed(t, f.sethealth, third, "user-3")
		return third.Record(answer)["source"] == "shared"
	})
}
