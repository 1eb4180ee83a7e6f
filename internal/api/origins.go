package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/sethealth/tokenvend/internal/netaddr"
)

// Origins is the list of web origins (RFC 6454) whose pages may ask for a token. The zero Origins lists
// none.
type Origins struct {
	exact     map[string]struct{}
	wildcards []wildcard
}

// wildcard matches one whole label between prefix and suffix: "https://", ".example.com:8443".
type wildcard struct{ prefix, suffix string }

// ParseOrigins reads CORS_ALLOWED_ORIGINS: exact origins and one-level wildcards, or the single word
// "none". Its errors tell the place in the list and what an item must be, never the item.
func ParseOrigins(items []string) (Origins, error) {
	o := Origins{exact: make(map[string]struct{}, len(items))}
	if len(items) == 1 && items[0] == "none" {
		return o, nil
	}
	if len(items) == 0 {
		return o, errors.New("must list origins, or be none")
	}
	for i, item := range items {
		if err := o.add(item); err != nil {
			return Origins{}, fmt.Errorf("item %d %w", i+1, err)
		}
	}
	return o, nil
}

func (o *Origins) add(item string) error {
	scheme, host, _ := strings.Cut(item, "://")
	parent, wild := strings.CutPrefix(host, "*.")
	u, err := url.Parse(scheme + "://" + parent)
	switch {
	case item == "none":
		return errors.New("is none, which must stand alone")
	case err != nil || item == "" || (scheme != "https" && scheme != "http") || u.Hostname() == "" || scheme+"://"+u.Host != scheme+"://"+parent:
		return errors.New("must be an origin such as https://app.example.com: scheme, host and, where it is not the default, port; no path, no trailing slash, no * but a leading *. for one label")
	case !isHost(u.Hostname()):
		return errors.New("must have a lower-case host name, in its ASCII form")
	case strings.HasSuffix(u.Host, ":") || u.Port() == map[string]string{"https": "443", "http": "80"}[scheme]:
		return errors.New("must leave the default port out, as browsers do")
	case scheme == "http" && !isLoopbackOrigin(u.Hostname()):
		return errors.New("must be https, unless its host is a loopback one")
	case wild && !strings.Contains(parent, ".") && u.Hostname() != "localhost":
		return errors.New("must not span a whole top-level domain")
	case wild:
		o.wildcards = append(o.wildcards, wildcard{prefix: scheme + "://", suffix: "." + parent})
	default:
		o.exact[item] = struct{}{}
	}
	return nil
}

// Contains reports whether the list holds origin, to the byte: browsers serialize origins in one way.
func (o *Origins) Contains(origin string) bool {
	if _, ok := o.exact[origin]; ok {
		return true
	}
	for _, w := range o.wildcards {
		if label, ok := strings.CutPrefix(origin, w.prefix); ok {
			if label, ok = strings.CutSuffix(label, w.suffix); ok && isLabel(label) {
				return true
			}
		}
	}
	return false
}

// allows reports whether a page may read the answer to r: one Origin, and a listed one.
func (o *Origins) allows(r *http.Request) bool {
	origin := r.Header["Origin"]
	return len(origin) == 1 && o.Contains(origin[0])
}

// isHost tells a lower-case ASCII name or an address; brackets are already off.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return host == strings.ToLower(host)
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

func isLabel(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// isLoopbackOrigin also takes names below localhost, which browsers never look up (RFC 6761).
func isLoopbackOrigin(host string) bool {
	return netaddr.IsLoopback(host) || strings.HasSuffix(host, ".localhost")
}
