package harness

import (
	"net"
	"net/http"
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

func newEmulator() *emulator.Emulator {
	return emulator.New(emulator.Options{Key: secret.New(Key), Secret: secret.New(Secret), Strict: true})
}

// NewSethealth starts an emulator that ends with the test.
func NewSethealth(t testing.TB) *Sethealth {
	t.Helper()
	e := newEmulator()
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return &Sethealth{Emulator: e, URL: server.URL}
}

// Set puts faults in force, in place of those before.
func (s *Sethealth) Set(f faults.Faults) { faults.Set(s.Emulator, f) }

// Env is the least environment of a service with HS256 sessions in front of this Sethealth, and time-outs that
// a busy machine does not reach.
func (s *Sethealth) Env() Env {
	return Env{
		"SETHEALTH_URL": s.URL, "SETHEALTH_KEY": Key, "SETHEALTH_SECRET": Secret,
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

// Upstream is a Sethealth whose network can fail too. It stands on an address of its own, so that no
// outgoing connection takes its port while nobody listens there.
type Upstream struct {
	*Sethealth
	t    testing.TB
	host string // with the port
	stop func() // ends what listens there; nil if nothing does
}

// NewUpstream starts one that ends with the test.
func NewUpstream(t testing.TB) *Upstream {
	t.Helper()
	u := &Upstream{Sethealth: &Sethealth{Emulator: newEmulator()}, t: t, host: "127.0.0.42:0"}
	u.Up()
	u.URL = "http://" + u.host
	t.Cleanup(u.Down)
	return u
}

func (u *Upstream) listen() net.Listener {
	u.t.Helper()
	u.Down()
	listener, err := net.Listen("tcp", u.host)
	require.NoError(u.t, err)
	u.host = listener.Addr().String()
	return listener
}

// Up listens again, on the same address. Open connections are cut.
func (u *Upstream) Up() {
	u.t.Helper()
	listener, server := u.listen(), &http.Server{Handler: u.Emulator}
	u.stop = func() { _ = server.Close() }
	go func() { _ = server.Serve(listener) }()
}

// Down refuses connections and breaks those that are open.
func (u *Upstream) Down() {
	if u.stop != nil {
		u.stop()
		u.stop = nil
	}
}

// Strike does something else with connections than to serve them, until the next Up or Down.
func (u *Upstream) Strike(do func(net.Conn)) {
	u.t.Helper()
	listener := u.listen()
	u.stop = func() { _ = listener.Close() }
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				do(conn)
			}()
		}
	}()
}

// Repair ends every fault, of the emulator and of its network.
func (u *Upstream) Repair() {
	u.t.Helper()
	u.Set(faults.Faults{})
	u.Up()
}
