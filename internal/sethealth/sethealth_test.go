package sethealth_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth"
)

// Pages and audit logs compare hashes of different releases, and caches of different replicas share keys.
func TestTheKeyAndHashOfAUserAreGolden(t *testing.T) {
	assert.Equal(t, "3:jwt23:https://idp.example.comanna", anna.Key())
	assert.Equal(t, "ade5d625a9ed0735", anna.Hash())
}

func TestDifferentUsersHaveDifferentKeysHashesAndPseudonyms(t *testing.T) {
	c := defaults()
	user := rapid.Custom(func(r *rapid.T) sethealth.User {
		part := rapid.StringMatching(`[0-2:a]{0,4}`)
		return sethealth.User{Check: part.Draw(r, "check"), Issuer: part.Draw(r, "issuer"), Name: part.Draw(r, "name")}
	})
	rapid.Check(t, func(r *rapid.T) {
		a, b := user.Draw(r, "a"), user.Draw(r, "b")
		assert.Equal(r, a == b, a.Key() == b.Key())
		assert.Equal(r, a == b, a.Hash() == b.Hash())
		assert.Equal(r, a == b, c.Pseudonym(a) == c.Pseudonym(b))
	})
}

func TestAPseudonymIsStableAndKeyedByTheSecret(t *testing.T) {
	f := defaults()
	assert.Equal(t, "b06c71941595f653e54f94b5f2842661", f.Pseudonym(anna), "the same on every replica, in every release")
	f.Key = secret.Static("SETHEALTH_KEY", secret.New("key-2"))
	assert.Equal(t, defaults().Pseudonym(anna), f.Pseudonym(anna))
	f.Secret = secret.Static("SETHEALTH_SECRET", secret.New("secret-2"))
	assert.NotEqual(t, defaults().Pseudonym(anna), f.Pseudonym(anna))
}
