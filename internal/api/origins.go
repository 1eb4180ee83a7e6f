package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sethealth/tokenvend/internal/setting"
)

// origins is the list of web origins (RFC 6454) whose pages may request a token. The zero value allows none.
type origins struct {
	exact     map[string]bool
	wildcards []wildcard
}

// wildcard matches one whole label between prefix and suffix: "https://", ".example.com:8443".
type wildcard struct{ prefix, suffix string }

// native matches the origins of native shells and browser extensions, whose host is a fixed word or an id.
var native = regexp.MustCompile(`^(capacitor|ionic|tauri|app|chrome-extension|moz-extension)://[a-z0-9._-]+$`)

var (
	hostLabel = regexp.MustCompile(`^[a-z0-9_-]+$`)
	hostName  = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
)

// parseOrigins parses CORS_ALLOWED_ORIGINS: exact origins and one-level wildcards, or the single word "none". The
// error names every wrong item by its position and says what it must be; it never quotes the item.
func parseOrigins(items, insecureHosts []string) (origins, error) {
	o := origins{exact: make(map[string]bool, len(items))}
	if len(items) == 1 && items[0] == "none" {
		return o, nil
	}
	var faults []string
	for i, item := range items {
		if err := o.add(item, insecureHosts); err != nil {
			faults = append(faults, fmt.Sprintf("item %d %s", i+1, err))
		}
	}
	if len(faults) > 0 {
		return origins{}, errors.New(strings.Join(faults, "; "))
	}
	return o, nil
}

func (o *origins) add(item string, insecureHosts []string) error {
	if native.MatchString(item) {
		o.exact[item] = true
		return nil
	}
	scheme, host, _ := strings.Cut(item, "://")
	parent, wild := strings.CutPrefix(host, "*.")
	u, err := url.Parse(scheme + "://" + parent)
	switch {
	case item == "none":
		return errors.New("is none, which must stand alone")
	case err != nil || (scheme != "https" && scheme != "http") || u.Hostname() == "" || u.Host != parent:
		return errors.New("must be an origin such as https://app.example.com: scheme, host and, where it is not the default, port; no path, no trailing slash, no * but a leading *. for one label")
	case !isHost(u.Hostname()):
		return errors.New("must have a lower-case host name, in its ASCII form")
	case !setting.IsPort(u.Port()):
		return errors.New("must have a port from 1 to 65535")
	case strings.HasSuffix(u.Host, ":") || u.Port() == map[string]string{"https": "443", "http": "80"}[scheme]:
		return errors.New("must leave the default port out, as browsers do")
	case scheme == "http" && !isLoopbackOrigin(u.Hostname()) && (wild || !slices.Contains(insecureHosts, u.Hostname())):
		return errors.New("must be https, unless its host is a loopback one or one of INSECURE_HTTP_HOSTS")
	case wild && !strings.Contains(parent, ".") && u.Hostname() != "localhost":
		return errors.New("must not span a whole top-level domain")
	case wild:
		o.wildcards = append(o.wildcards, wildcard{prefix: scheme + "://", suffix: "." + parent})
	default:
		o.exact[item] = true
	}
	return nil
}

// contains matches exactly, because browsers always serialize an origin the same way.
func (o *origins) contains(origin string) bool {
	if o.exact[origin] {
		return true
	}
	for _, w := range o.wildcards {
		if label, ok := strings.CutPrefix(origin, w.prefix); ok {
			if label, ok = strings.CutSuffix(label, w.suffix); ok && hostLabel.MatchString(label) {
				return true
			}
		}
	}
	return false
}

// allows reports whether r has exactly one Origin and it is listed.
func (o *origins) allows(r *http.Request) bool {
	origin := r.Header["Origin"]
	return len(origin) == 1 && o.contains(origin[0])
}

// isHost reports whether host, without brackets, is a lower-case ASCII name or an address as browsers write it.
func isHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return host == addr.String()
	}
	return hostName.MatchString(host)
}

// isLoopbackOrigin also accepts names below localhost, which browsers never look up (RFC 6761).
func isLoopbackOrigin(host string) bool {
	return setting.IsLoopback(host) || strings.HasSuffix(host, ".localhost")
}
