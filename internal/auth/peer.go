package auth

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/sethealth/tokenvend/internal/setting"
)

// ClientIP returns the caller's address: the connection's peer or, if that is a trusted proxy, the right-most entry of
// X-Forwarded-For that is not one. An entry that is not an address ends the search, because those to the left of it may
// be forged.
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

// Scheme returns https if the connection uses TLS or a trusted peer says so in X-Forwarded-Proto, and http otherwise.
func Scheme(r *http.Request, trusted setting.Prefixes) string {
	proto := r.Header["X-Forwarded-Proto"]
	if r.TLS != nil || len(proto) == 1 && strings.EqualFold(proto[0], "https") && within(peer(r), trusted) {
		return "https"
	}
	return "http"
}

// peer returns the address at the other end of the connection, or the zero Addr if it has none.
func peer(r *http.Request) netip.Addr {
	pair, _ := netip.ParseAddrPort(r.RemoteAddr)
	return plain(pair.Addr())
}

// parseHop reads an entry of X-Forwarded-For: an address, possibly with a port; IPv6 may be in brackets.
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

// plain drops a zone, which may be any text, and unmaps IPv4.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

func within(addr netip.Addr, prefixes setting.Prefixes) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
