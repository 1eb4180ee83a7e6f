package auth

import (
	"fmt"
	"net/url"

	"github.com/sethealth/tokenvend/internal/netaddr"
)

// checkURL refuses what could not be asked. A user in the address would be sent as Authorization in
// place of the caller's.
func checkURL(variable, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("auth: %s must be an http or https address without a user", variable)
	}
	return nil
}

// secureURL reports whether an address is https, or http on a loopback host.
func secureURL(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && netaddr.IsLoopback(u.Hostname())
}

// where names an address without user, path or query, any of which may be nobody's business.
func where(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an unusable address"
	}
	return u.Scheme + "://" + u.Host
}
