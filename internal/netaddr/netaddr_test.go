package netaddr_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sethealth/tokenvend/internal/netaddr"
)

func TestOnlyThisMachineIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.8.9.1": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "LOCALHOST.": false, "app.localhost": false, "localhost.example.com": false, "127.0.0.1.example.com": false,
		"10.0.0.1": false, "0.0.0.0": false, "::": false, "2130706433": false, "0x7f.1": false,
	} {
		assert.Equal(t, want, netaddr.IsLoopback(host), host)
	}
}

func TestAPeerIsWithinAPrefixHoweverItsAddressIsWritten(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fe80::/10")}
	for peer, want := range map[string]bool{
		"10.1.2.3:9": true, "[::ffff:10.1.2.3]:9": true, "[fe80::1%eth0]:9": true,
		"11.1.2.3:9": false, "[2001:db8::1]:9": false, "10.1.2.3": false, "": false, "proxy:9": false, "@": false,
	} {
		assert.Equal(t, want, netaddr.PeerWithin(peer, prefixes), peer)
	}
	assert.False(t, netaddr.PeerWithin("10.1.2.3:9", nil))
}
