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

// The service account and the parameters of sessions.
const (
	Key           = "canary-key-5f0b1d"
	Secret        = "canary-secret-93ae77"
	SessionSecret = "canary-session-secret-0123456789abcdef"
	Audience      = "https://tokens.example.com"
	Origin        = "https://app.example.com"
)

// Sethealth is an emulator whose network can fail.
type Sethealth struct {
	*emulator.Emulator
	*Site
}

// NewSethealth starts a strict emulator.
func NewSethealth(t testing.TB) *Sethealth {
	t.Helper()
	e := emulator.New(emulator.Options{Key: secret.New(Key), Secret: secret.New(Secret), Strict: true})
	s := &Sethealth{e, NewSite(t, e)}
	s.Up()
	return s
}

// Hang makes it never answer.
func (s *Sethealth) Hang() {
	s.Set(emulator.Fault{Name: "hang", Play: func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}})
}

// Env is EnvFor with the URL of this Sethealth.
func (s *Sethealth) Env() Env { return EnvFor(s.URL) }

// EnvFor returns the minimal environment of a service with HS256 sessions, and time-outs that a busy machine does not
// reach.
func EnvFor(url string) Env {
	return Env{
		"SETHEALTH_URL": url, "SETHEALTH_KEY": Key, "SETHEALTH_SECRET": Secret,
		"SESSION_CHECK": "jwt", "JWT_SECRET": SessionSecret, "JWT_AUDIENCE": Audience,
		"CORS_ALLOWED_ORIGINS": Origin,
		"SETHEALTH_TIMEOUT":    "1m", "SETHEALTH_ATTEMPT_TIMEOUT": "1m", "FORWARD_TIMEOUT": "30s", "INTROSPECTION_TIMEOUT": "30s",
	}
}

// RequireUser requires that an answer has a valid token of user.
func (s *Sethealth) RequireUser(t testing.TB, user string, answer Answer) {
	t.Helper()
	require.Equal(t, 200, answer.Status, answer.Body)
	claims, valid := s.Verify(answer.Token())
	require.True(t, valid)
	require.Equal(t, user, claims.User)
}

// Session returns a valid HS256 session.
func Session(t testing.TB, user string) string {
	t.Helper()
	return Sign(t, jose.HS256, []byte(SessionSecret), Claims(user))
}

// Claims returns the claims of a valid session.
func Claims(user string) map[string]any {
	return map[string]any{"sub": user, "aud": Audience, "exp": time.Now().Add(time.Hour).Unix()}
}

// Sign makes a JWT. Further members of its header are pairs of name and value.
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
