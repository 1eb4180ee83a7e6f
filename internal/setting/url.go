package setting

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CheckURL returns an error unless the address is an https URL, or an http URL of a loopback host or one of
// INSECURE_HTTP_HOSTS. It refuses a user in the URL, which would be sent as Authorization.
func CheckURL(address string, insecureHosts []string) error {
	u, err := parse(address)
	if err != nil {
		return errors.New("must be an https:// URL without user or fragment")
	}
	if u.Scheme == "https" || IsLoopback(u.Hostname()) || slices.Contains(insecureHosts, strings.ToLower(u.Hostname())) {
		return nil
	}
	return errors.New("must be an https:// URL (http:// only for a loopback host or one of INSECURE_HTTP_HOSTS)")
}

// CheckAnyURL is CheckURL for an address that may be plain http on any host.
func CheckAnyURL(address string) error {
	if _, err := parse(address); err != nil {
		return errors.New("must be an http:// or https:// URL without user or fragment")
	}
	return nil
}

func parse(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !IsPort(u.Port()) || u.User != nil || u.Fragment != "" {
		return nil, errors.New("not such a URL")
	}
	return u, nil
}

// IsPort reports whether a URL's port is empty, or a number as browsers write it.
func IsPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// IsLoopback reports whether a host is this machine itself, so that plaintext does not cross a network.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// Host returns the scheme and host of an address. User, path and query may be confidential.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an unusable address"
	}
	return u.Scheme + "://" + u.Host
}
