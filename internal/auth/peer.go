package auth

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/sethealth/tokenvend/internal/setting"
)

// ClientIP is the caller's address: the right-most one of X-Forwarded-For that is no trusted proxy, as far
// as trusted proxies vouch for it, else that of the connection's peer.
//
// An entry that is no address ends the walk: what stands left of it may come from the caller.
func ClientIP(r *http.Request, trusted setting.Prefixes) string {
	hop := peer(r)
	if !hop.IsValid() {
		return "unknown" // RFC 7239, section 6.2
	}
	entries := strings.Join(r.Header["X-Forwarded-For"], ",")
	for within(hop, trusted) {
		comma := strings.LastIndexByte(entries, ',')
		next, ok := parseHop(strings.Trim(entries[comma+1:], " \t"))
		if !ok {
			break
		}
		hop = next
		if comma < 0 {
			break
		}
		entries = entries[:comma]
	}
	return hop.String()
}

// Scheme is how the caller reaches the service: https if the connection is, or if a trusted peer says so in
// X-Forwarded-Proto.
func Scheme(r *http.Request, trusted setting.Prefixes) string {
	proto := r.Header["X-Forwarded-Proto"]
	if r.TLS != nil || len(proto) == 1 && strings.EqualFold(proto[0], "https") && within(peer(r), trusted) {
		return "https"
	}
	return "http"
}

// peer is the address at the other end of the connection; the zero Addr if that is none.
func peer(r *http.Request) netip.Addr {
	pair, _ := netip.ParseAddrPort(r.RemoteAddr)
	return plain(pair.Addr())
}

// parseHop reads an entry of X-Forwarded-For: an address, or an address and a port, of which an IPv6 one is
// in brackets.
func parseHop(entry string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		return plain(addr), true
	}
	for _, withPort := range []string{entry, entry + ":0"} {
		if pair, err := netip.ParseAddrPort(withPort); err == nil {
			return plain(pair.Addr()), true
		}
	}
	return netip.Addr{}, false
}

// plain drops a zone, which is any text, and writes IPv4 as IPv4.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func within(addr netip.Addr, prefixes setting.Prefixes) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
