package auth

import (
	"errors"
	"net/http"
	"net/netip"

	"github.com/sethealth/tokenvend/internal/netaddr"
)

// ProxyOptions are the options of the check "proxy".
type ProxyOptions struct {
	// UserHeader names the user; empty means X-Forwarded-User.
	UserHeader string
	// TrustedProxies are the peers that are believed. At least one is required.
	TrustedProxies []netip.Prefix
}

// Proxy believes an authenticating proxy in front, which names the user in a header.
type Proxy struct {
	header  string
	trusted []netip.Prefix
}

// NewProxy makes the check. It fails without a trusted proxy.
func NewProxy(o ProxyOptions) (*Proxy, error) {
	if len(o.TrustedProxies) == 0 {
		return nil, errors.New("auth: the check proxy needs TRUSTED_PROXIES")
	}
	header := o.UserHeader
	if header == "" {
		header = "X-Forwarded-User"
	}
	return &Proxy{header: http.CanonicalHeaderKey(header), trusted: o.TrustedProxies}, nil
}

// Authenticate takes the user from the header, if the peer of the connection is a trusted proxy. From
// any other peer the header is as if it were not there. Only the exact name is the header: spellings
// with an underscore or a dot are other headers to net/http too.
func (p *Proxy) Authenticate(r *http.Request) (Identity, error) {
	if !netaddr.PeerWithin(r.RemoteAddr, p.trusted) {
		return Identity{}, ErrNoCredential
	}
	user, err := single(r, p.header)
	if err != nil {
		return Identity{}, err
	}
	if !ValidSubject(user) {
		return Identity{}, unauthenticated("the proxy's user header holds no valid user")
	}
	return Identity{Subject: user}, nil
}
