package auth_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/auth"
)

func newProxy(t testing.TB, header string) *auth.Proxy {
	t.Helper()
	p, err := auth.NewProxy(auth.ProxyOptions{UserHeader: header, TrustedProxies: []netip.Prefix{
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10"),
	}})
	require.NoError(t, err)
	return p
}

func TestProxyBelievesTrustedPeersAlone(t *testing.T) {
	t.Parallel()
	for peer, want := range map[string]error{
		"10.1.2.3:4711":          nil,
		"[::ffff:10.1.2.3]:4711": nil,
		"[fd00::1]:1":            nil,
		"[fe80::1%eth0]:1":       nil,
		"10.2.0.1:4711":          auth.ErrNoCredential,
		"203.0.113.7:4711":       auth.ErrNoCredential,
		"127.0.0.1:4711":         auth.ErrNoCredential,
		"[2001:db8::1]:1":        auth.ErrNoCredential,
		"10.1.2.3":               auth.ErrNoCredential,
		"@":                      auth.ErrNoCredential,
		"":                       auth.ErrNoCredential,
	} {
		t.Run(peer, func(t *testing.T) {
			r := request("X-Forwarded-User", "alice", "X-Forwarded-For", "10.1.2.3", "X-Real-Ip", "10.1.2.3", "Forwarded", "for=10.1.2.3")
			r.RemoteAddr = peer
			id, err := newProxy(t, "").Authenticate(r)
			require.ErrorIs(t, err, want)
			assert.Equal(t, want == nil, id.Subject == "alice")
		})
	}
	_, err := auth.NewProxy(auth.ProxyOptions{})
	require.ErrorContains(t, err, "TRUSTED_PROXIES")
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
		{"a user with spaces within", []string{"Remote-User", "Alice Liddell"}, "Alice Liddell", nil},
		{"no header", nil, "", auth.ErrNoCredential},
		{"an empty header, as for nobody", []string{"Remote-User", ""}, "", auth.ErrNoCredential},
		{"the default header where another is set", []string{"X-Forwarded-User", "alice"}, "", auth.ErrNoCredential},
		{"blanks", []string{"Remote-User", " \t "}, "", auth.ErrUnauthenticated},
		{"a control character", []string{"Remote-User", "al\tice"}, "", auth.ErrUnauthenticated},
		{"257 bytes", []string{"Remote-User", strings.Repeat("a", 257)}, "", auth.ErrUnauthenticated},
		{"no UTF-8", []string{"Remote-User", "al\xffice"}, "", auth.ErrUnauthenticated},
		{"two values", []string{"Remote-User", "alice", "Remote-User", "bob"}, "", auth.ErrUnauthenticated},
		{"the same value twice", []string{"Remote-User", "alice", "Remote-User", "alice"}, "", auth.ErrUnauthenticated},
		{"an empty and another", []string{"Remote-User", "", "Remote-User", "bob"}, "", auth.ErrUnauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := request(test.headers...)
			r.RemoteAddr = "10.1.0.1:1"
			id, err := newProxy(t, "remote-user").Authenticate(r)
			require.ErrorIs(t, err, test.want)
			assert.Equal(t, test.user, id.Subject)
		})
	}
}
