package setting

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CheckURL reports what an address must be: https, or http where the host is this machine or one of
// INSECURE_HTTP_HOSTS. A user in it would be sent as Authorization, so there must be none.
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

// IsPort reports a port as browsers write it, or none.
func IsPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return port == "" || err == nil && n > 0 && strconv.FormatUint(n, 10) == port
}

// IsLoopback reports whether a URL's host name is this machine itself, so that what is sent there in
// plaintext crosses no network.
func IsLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// Host names an address without user, path or query, any of which may be confidential.
func Host(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "an unusable address"
	}
	return u.Scheme + "://" + u.Host
}
