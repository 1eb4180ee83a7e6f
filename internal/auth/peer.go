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
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown" // RFC 7239, section 6.2
	}
	hop := plain(peer.Addr())
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for more := true; more; {
			if !within(hop, trusted) {
				return hop.String()
			}
			entry := line
			if comma := strings.LastIndexByte(line, ','); comma >= 0 {
				line, entry = line[:comma], line[comma+1:]
			} else {
				more = false
			}
			next, ok := parseHop(strings.Trim(entry, " \t"))
			if !ok {
				return hop.String()
			}
			hop = next
		}
	}
	return hop.String()
}

// Scheme is how the caller reaches the service: https if the connection is, or if a trusted peer says so in
// X-Forwarded-Proto.
func Scheme(r *http.Request, trusted setting.Prefixes) string {
	proto := r.Header["X-Forwarded-Proto"]
	if r.TLS != nil || len(proto) == 1 && strings.EqualFold(proto[0], "https") && trusted.Contains(r.RemoteAddr) {
		return "https"
	}
	return "http"
}

// parseHop reads an entry of X-Forwarded-For: an address, or an address and a port, of which an IPv6 one is
// in brackets.
func parseHop(entry string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(entry); err == nil {
		return plain(addr), true
	}
	if pair, err := netip.ParseAddrPort(entry); err == nil {
		return plain(pair.Addr()), true
	}
	if inner, ok := strings.CutPrefix(entry, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			addr, err := netip.ParseAddr(inner)
			return plain(addr), err == nil && addr.Is6()
		}
	}
	return netip.Addr{}, false
}

// plain drops a zone, which is any text, and writes IPv4 as IPv4.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func within(addr netip.Addr, prefixes setting.Prefixes) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
