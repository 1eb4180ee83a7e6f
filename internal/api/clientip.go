package api

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/go-chi/chi/v5/middleware"

	"github.com/sethealth/tokenvend/internal/netaddr"
)

// withClientIP finds the caller's address behind trusted proxies, and only behind those.
func (s *server) withClientIP(next http.Handler) http.Handler {
	if len(s.TrustedProxies) == 0 {
		return next
	}
	cidrs := make([]string, len(s.TrustedProxies))
	for i, p := range s.TrustedProxies {
		cidrs[i] = p.String()
	}
	return middleware.ClientIPFromXFF(cidrs...)(next)
}

// Scheme is how callers reach the service: what X-Forwarded-Proto says where the peer is a trusted proxy,
// how the peer came otherwise.
func Scheme(trusted []netip.Prefix) func(*http.Request) string {
	return func(r *http.Request) string {
		proto := r.Header.Get("X-Forwarded-Proto")
		switch {
		case r.TLS != nil, proto == "https" && netaddr.PeerWithin(r.RemoteAddr, trusted):
			return "https"
		default:
			return "http"
		}
	}
}

// ClientIP is the address of the caller: what X-Forwarded-For says where trusted proxies vouch for it,
// the peer's own address otherwise.
func ClientIP(r *http.Request) string {
	if ip := middleware.GetClientIP(r.Context()); ip != "" {
		return ip
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
