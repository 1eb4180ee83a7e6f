package harness

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/test/faults"
)

// What the tests' service account and sessions are made with.
const (
	Key           = "canary-key-5f0b1d"
	Secret        = "canary-secret-93ae77"
	SessionSecret = "canary-session-secret-0123456789abcdef"
	Audience      = "https://tokens.example.com"
	Origin        = "https://app.example.com"
)

// Sethealth is an emulator that listens.
type Sethealth struct {
	*emulator.Emulator
	URL string
}

// NewSethealth starts an emulator that ends with the test.
func NewSethealth(t testing.TB) *Sethealth {
	t.Helper()
	e := emulator.New(emulator.Options{Key: secret.New(Key), Secret: secret.New(Secret), Strict: true})
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return &Sethealth{Emulator: e, URL: server.URL}
}

// Set puts faults in force, in place of those before.
func (s *Sethealth) Set(f faults.Faults) { faults.Set(s.Emulator, f) }

// Env is the least environment of a service with HS256 sessions in front of this Sethealth.
func (s *Sethealth) Env() Env {
	return Env{
		"SETHEALTH_URL": s.URL, "SETHEALTH_KEY": Key, "SETHEALTH_SECRET": Secret,
		"SESSION_CHECK": "jwt", "JWT_SECRET": SessionSecret, "JWT_AUDIENCE": Audience,
		"CORS_ALLOWED_ORIGINS": Origin,
	}
}

// Session is a good HS256 session of a user.
func Session(t testing.TB, user string) string {
	t.Helper()
	return Sign(t, jose.HS256, []byte(SessionSecret), Claims(user))
}

// Claims are those of a good session.
func Claims(user string) map[string]any {
	return map[string]any{"sub": user, "aud": Audience, "exp": time.Now().Add(time.Hour).Unix()}
}

// Sign makes a JWT of the usual kind.
func Sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}
