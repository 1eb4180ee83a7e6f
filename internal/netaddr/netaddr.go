// Package netaddr holds the two rules about addresses that several rooms go by: which hosts are this
// machine itself, and which peers are trusted.
package netaddr

import (
	"net/netip"
	"slices"
)

// IsLoopback reports whether a URL's host name is this machine itself, so that what is sent there in
// clear crosses no network: a loopback address or localhost.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// PeerWithin reports whether a connection's peer, an http.Request's RemoteAddr, is within one of the
// prefixes. An IPv4 address written as IPv6 counts as what it is, and a zone does not count.
func PeerWithin(remoteAddr string, prefixes []netip.Prefix) bool {
	peer, err := netip.ParseAddrPort(remoteAddr)
	return err == nil && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool {
		return p.Contains(peer.Addr().Unmap().WithZone(""))
	})
}
