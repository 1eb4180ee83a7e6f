package redisx_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/secret"
)

// account is a service account that can be rotated.
type account struct {
	mu     sync.Mutex
	name   string
	secret secret.Value
}

func newAccount(name string) *account {
	return &account{name: name, secret: secret.New(name + "'s secret")}
}

func (a *account) Account() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.name
}

func (a *account) Derive(purpose string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.secret.Derive(purpose)
}

func (a *account) rotate(name string) {
	next := newAccount(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.name, a.secret = next.name, next.secret
}

func TestWhatIsSealedOpensOnlyUnderItsNameAndKeys(t *testing.T) {
	keys := redisx.NewSpace(newAccount("one"), "a", "b").Keys()
	name := keys.Name("token", "alice")
	sealed := keys.Seal(name, []byte("plain"))
	plain, err := keys.Open(name, sealed)
	require.NoError(t, err)
	require.Equal(t, "plain", string(plain))
	assert.NotContains(t, string(sealed), "plain")

	_, err = keys.Open(keys.Name("token", "bob"), sealed)
	assert.Error(t, err, "under another user")
	_, err = keys.Open(keys.Name("other", "alice"), sealed)
	assert.Error(t, err, "under another kind")
	_, err = redisx.NewSpace(newAccount("two"), "a", "b").Keys().Open(name, sealed)
	assert.Error(t, err, "with another account's keys")
	for i := range sealed {
		changed := append([]byte{}, sealed...)
		changed[i] ^= 1
		_, err = keys.Open(name, changed)
		assert.Error(t, err, "with byte %d changed", i)
		_, err = keys.Open(name, sealed[:i])
		assert.Error(t, err, "cut after byte %d", i)
	}
}

func TestEveryAccountUserAndSettingHasNamesOfItsOwn(t *testing.T) {
	seen := map[string]string{}
	for _, who := range []string{"one", "two"} {
		for _, settings := range [][]string{nil, {""}, {"a", "b"}, {"ab"}, {"", "ab"}, {"a", "b", ""}} {
			for _, user := range []string{"alice", "Alice", "alice "} {
				name := redisx.NewSpace(newAccount(who), settings...).Keys().Name("token", user)
				from := fmt.Sprintf("%s %q %q", who, settings, user)
				assert.NotContains(t, seen, name, from)
				seen[name] = from
				assert.Regexp(t, `^tokenvend:[0-9a-f]{8}:\{[0-9a-f]{32}\}:token$`, name)
			}
		}
	}
}

func TestAnotherAccountWithTheSameSecretHasNamesOfItsOwn(t *testing.T) {
	one, two := newAccount("one"), newAccount("two")
	two.secret = one.secret
	keys, others := redisx.NewSpace(one, "a").Keys(), redisx.NewSpace(two, "a").Keys()
	name, other := keys.Name("token", "alice"), others.Name("token", "alice")
	assert.NotEqual(t, name, other)
	assert.NotEqual(t, name[:len("tokenvend:01234567")], other[:len("tokenvend:01234567")], "a namespace of its own")
	_, err := others.Open(other, keys.Seal(name, []byte("plain")))
	assert.Error(t, err, "copied over")
}

func TestARotatedAccountHasOtherKeysAtOnce(t *testing.T) {
	who := newAccount("one")
	space := redisx.NewSpace(who, "a")
	before := space.Keys()
	assert.Same(t, before, space.Keys())
	who.rotate("two")
	after := space.Keys()
	assert.Equal(t, "two", after.Account)
	assert.NotEqual(t, before.Name("token", "alice"), after.Name("token", "alice"))
	assert.Equal(t, after.Name("token", "alice"), redisx.NewSpace(newAccount("two"), "a").Keys().Name("token", "alice"))
}
