package harness

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

// What the tests' service account and sessions are made with.
const (
	Key           = "canary-key-5f0b1d"
	Secret        = "canary-secret-93ae77"
	SessionSecret = "canary-session-secret-0123456789abcdef"
	Audience      = "https://tokens.example.com"
	Origin        = "https://app.example.com"
)

// Sethealth is an emulator whose network can fail too.
type Sethealth struct {
	*emulator.Emulator
	*Site
}

// NewSethealth starts an emulator that ends with the test.
func NewSethealth(t testing.TB) *Sethealth {
	t.Helper()
	e := emulator.New(emulator.Options{Key: secret.New(Key), Secret: secret.New(Secret), Strict: true})
	s := &Sethealth{e, NewSite(t, e)}
	s.Up()
	return s
}

// Hang lets it never answer.
func (s *Sethealth) Hang() {
	s.Set(emulator.Fault{Name: "hang", Play: func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}})
}

// Env is EnvFor this Sethealth.
func (s *Sethealth) Env() Env { return EnvFor(s.URL) }

// EnvFor is the least environment of a service with HS256 sessions in front of that Sethealth, and time-outs that
// a busy machine does not reach.
func EnvFor(url string) Env {
	return Env{
		"SETHEALTH_URL": url, "SETHEALTH_KEY": Key, "SETHEALTH_SECRET": Secret,
		"SESSION_CHECK": "jwt", "JWT_SECRET": SessionSecret, "JWT_AUDIENCE": Audience,
		"CORS_ALLOWED_ORIGINS": Origin,
		"SETHEALTH_TIMEOUT":    "1m", "SETHEALTH_ATTEMPT_TIMEOUT": "1m", "FORWARD_TIMEOUT": "30s", "INTROSPECTION_TIMEOUT": "30s",
	}
}

// RequireUser holds an answer to be a success with a valid token of that user.
func (s *Sethealth) RequireUser(t testing.TB, user string, answer Answer) {
	t.Helper()
	require.Equal(t, 200, answer.Status, answer.Body)
	claims, valid := s.Verify(answer.Token())
	require.True(t, valid)
	require.Equal(t, user, claims.User)
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

// Sign makes a JWT, with any more members of the header as name, value, …
func Sign(t testing.TB, algorithm jose.SignatureAlgorithm, key any, claims map[string]any, header ...any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	for i := 0; i+1 < len(header); i += 2 {
		options.WithHeader(jose.HeaderKey(header[i].(string)), header[i+1])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	require.NoError(t, err)
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	require.NoError(t, err)
	return token
}
