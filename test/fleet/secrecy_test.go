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

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/tokencache/redistest"
	"github.com/sethealth/tokenvend/test/faults"
	"github.com/sethealth/tokenvend/test/harness"
)

func TestADumpOfTheDatabaseHoldsNothingReadable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--rdbcompression", "no", "--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000")
	f := newFleet(t, server, 2, nil)
	// During the calls too, when locks lie there.
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
	harness.Eventually(t, soon, "a lock", func() bool { return len(f.keys(":lock")) > 0 })
	middle := f.dump()
	all.Wait()
	f.settled(20)
	dump := middle + f.dump()
	assert.GreaterOrEqual(t, strings.Count(dump, "tokenvend:"), 40, "the dump holds the entries")
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
		account.Pseudonym(sethealth.User{Check: "jwt", Name: "canary.0@clinic.example"}),
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
		if strings.EqualFold(entry.Args[0], "eval") { // and not the text of the script
			entry.Args = entry.Args[2:]
		}
		fmt.Fprintln(&all, entry.Args)
	}
	return all.String()
}
