package auth_test

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/setting"
)

var proxies = setting.Prefixes{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

func TestTheClientIsTheLastHopThatIsNotATrustedProxy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"a peer that is not trusted, whatever it says", "203.0.113.1:9", []string{"198.51.100.1"}, "203.0.113.1"},
		{"a trusted peer that says nothing", "10.0.0.1:9", nil, "10.0.0.1"},
		{"a peer written as IPv6", "[::ffff:10.0.0.1]:9", []string{"198.51.100.1"}, "198.51.100.1"},
		{"entries that the caller added", "10.0.0.1:9", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"several proxies", "10.0.0.1:9", []string{"1.1.1.1, 198.51.100.1 ,\t10.0.0.3,10.0.0.2"}, "198.51.100.1"},
		{"several lines", "10.0.0.1:9", []string{"1.1.1.1", "198.51.100.1, 10.0.0.3", "10.0.0.2"}, "198.51.100.1"},
		{"proxies alone", "10.0.0.1:9", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"an IPv4 address with a port", "10.0.0.1:9", []string{"203.0.113.7:51234"}, "203.0.113.7"},
		{"an IPv6 address in brackets", "10.0.0.1:9", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"an IPv6 address with a port", "10.0.0.1:9", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"a zone, which may be any text", "10.0.0.1:9", []string{"fe80::1%\x1b[31m"}, "fe80::1"},
		{"a word ends the search at the last trusted hop", "10.0.0.1:9", []string{"1.1.1.1, unix:, 10.0.0.3"}, "10.0.0.3"},
		{"an empty entry ends the search", "10.0.0.1:9", []string{"1.1.1.1, , 10.0.0.3"}, "10.0.0.3"},
		{"an empty last entry ends the search", "10.0.0.1:9", []string{"1.1.1.1,"}, "10.0.0.1"},
		{"an invalid port", "10.0.0.1:9", []string{"203.0.113.7:99999"}, "10.0.0.1"},
		{"IPv4 in brackets", "10.0.0.1:9", []string{"[203.0.113.7]"}, "10.0.0.1"},
		{"half a bracket", "10.0.0.1:9", []string{"[2001:db8::1"}, "10.0.0.1"},
		{"no address at all", "@", []string{"203.0.113.7"}, "unknown"},
	} {
		r := request()
		r.RemoteAddr = test.peer
		if test.forwarded != nil {
			r.Header["X-Forwarded-For"] = test.forwarded
		}
		assert.Equal(t, test.want, auth.ClientIP(r, proxies), test.name)
	}
}

func TestTheSchemeComesFromTheConnectionOrATrustedPeer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, peer string
		tls        *tls.ConnectionState
		proto      []string
		want       string
	}{
		{"plain", "10.0.0.1:9", nil, nil, "http"},
		{"TLS", "203.0.113.1:9", &tls.ConnectionState{}, nil, "https"},
		{"a trusted peer", "10.0.0.1:9", nil, []string{"HTTPS"}, "https"},
		{"any other peer", "203.0.113.1:9", nil, []string{"https"}, "http"},
		{"another word", "10.0.0.1:9", nil, []string{"gopher"}, "http"},
		{"two words", "10.0.0.1:9", nil, []string{"https", "http"}, "http"},
	} {
		r := request()
		r.RemoteAddr, r.TLS = test.peer, test.tls
		if test.proto != nil {
			r.Header["X-Forwarded-Proto"] = test.proto
		}
		assert.Equal(t, test.want, auth.Scheme(r, proxies), test.name)
	}
}

func FuzzXForwardedFor(f *testing.F) {
	for _, seed := range []string{"", ",", "1.1.1.1", "1.1.1.1, 10.0.0.2", "[2001:db8::1]:443", "203.0.113.7:51234,", "::ffff:10.0.0.1", "fe80::1%\x1b", "[", "]:1", "unknown", "10.0.0.1,,10.0.0.1"} {
		f.Add(seed, "10.0.0.2")
		f.Add("1.1.1.1", seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		r := request()
		r.RemoteAddr = "10.0.0.1:9"
		r.Header = http.Header{"X-Forwarded-For": {first, second}}
		got, err := netip.ParseAddr(auth.ClientIP(r, proxies))
		if err != nil || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q, %q: %v, %v", first, second, got, err)
		}
		r.Header = http.Header{"X-Forwarded-For": {first, second + ",198.51.100.1, 10.0.0.2"}}
		if ip := auth.ClientIP(r, proxies); ip != "198.51.100.1" {
			t.Errorf("forged entries chose %s", ip)
		}
		r.RemoteAddr = "203.0.113.1:9"
		if ip := auth.ClientIP(r, proxies); ip != "203.0.113.1" {
			t.Errorf("an untrusted peer chose %s", ip)
		}
	})
}
