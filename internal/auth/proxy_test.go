package auth_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

func newProxy(t testing.TB, header string, change func(*auth.Config, *auth.Deps)) *auth.Chain {
	t.Helper()
	return build(t, auth.Config{
		SessionCheck: setting.List{"proxy"}, TrustedProxies: proxies, ProxyConfig: auth.ProxyConfig{UserHeader: header},
	}, nil, change)
}

func TestProxyBelievesTrustedPeersAlone(t *testing.T) {
	t.Parallel()
	p := newProxy(t, "X-Forwarded-User", nil)
	for peer, want := range map[string]error{
		"10.1.2.3:4711":          nil,
		"[::ffff:10.1.2.3]:4711": nil,
		"[fd00::1%eth0]:1":       nil,
		"11.2.0.1:4711":          auth.ErrNoCredential,
		"127.0.0.1:4711":         auth.ErrNoCredential,
		"[2001:db8::1]:1":        auth.ErrNoCredential,
		"10.1.2.3":               auth.ErrNoCredential,
		"@":                      auth.ErrNoCredential,
		"":                       auth.ErrNoCredential,
	} {
		r := request("X-Forwarded-User", "alice", "X-Forwarded-For", "10.1.2.3", "X-Real-Ip", "10.1.2.3", "Forwarded", "for=10.1.2.3")
		r.RemoteAddr = peer
		assert.Equal(t, want == nil, expect(t, p, r, want, peer).Name == "alice", peer)
	}
	requireCheck(t, p, "")
	assert.Equal(t, "ok, X-Forwarded-User from 10.0.0.0/8, fd00::/8", state(p))
}

func TestProxyUser(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		headers []string
		user    string
		want    error
	}{
		{"a user", []string{"Remote-User", "alice"}, "alice", nil},
		{"no header", nil, "", auth.ErrNoCredential},
		{"an empty header, as for nobody", []string{"Remote-User", ""}, "", auth.ErrNoCredential},
		{"the default header where another is set", []string{"X-Forwarded-User", "alice"}, "", auth.ErrNoCredential},
		{"another spelling of the header", []string{"Remote_User", "alice"}, "", auth.ErrNoCredential},
		{"a control character", []string{"Remote-User", "al\tice"}, "", auth.ErrUnauthenticated},
		{"two values", []string{"Remote-User", "alice", "Remote-User", "bob"}, "", auth.ErrUnauthenticated},
		{"the same value twice", []string{"Remote-User", "alice", "Remote-User", "alice"}, "", auth.ErrUnauthenticated},
	} {
		r := request(test.headers...)
		r.RemoteAddr = "10.1.0.1:1"
		result, err := newProxy(t, "remote-user", nil).Authenticate(r)
		require.ErrorIs(t, err, test.want, test.name)
		assert.Equal(t, test.user, result.Name, test.name)
		if err != nil {
			require.ErrorContains(t, err, "PROXY_USER_HEADER", test.name)
		}
	}
}

func TestAnIgnoredHeaderIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		p := newProxy(t, "X-Forwarded-User", func(_ *auth.Config, d *auth.Deps) { d.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
		lines := func() int { return strings.Count(logged.String(), "TRUSTED_PROXIES") }
		ask := func(peer string, headers ...string) {
			r := request(headers...)
			r.RemoteAddr = peer
			expect(t, p, r, auth.ErrNoCredential)
		}
		ask("192.0.2.7:1")
		require.Zero(t, lines(), "there is nothing to ignore")
		for range 3 {
			ask("192.0.2.7:1", "X-Forwarded-User", "canary")
			ask("192.0.2.8:1", "X-Forwarded-User", "canary", "X-Forwarded-User", "canary")
		}
		require.Equal(t, 1, lines())
		assert.Contains(t, logged.String(), "peer=192.0.2.7")
		assert.NotContains(t, logged.String(), "canary")
		time.Sleep(time.Minute)
		ask("192.0.2.8:1", "X-Forwarded-User", "canary")
		require.Equal(t, 2, lines())
	})
}
