package auth

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/sethealth/tokenvend/internal/setting"
)

// ProxyConfig configures the check "proxy", which needs TRUSTED_PROXIES too.
type ProxyConfig struct {
	UserHeader string `envconfig:"PROXY_USER_HEADER" default:"X-Forwarded-User" group:"Session check proxy" desc:"request header by which a proxy within TRUSTED_PROXIES names the user"`
}

func (c *Config) validateProxy(p *setting.Problems) {
	checkNames(p, "PROXY_USER_HEADER", "the name of a header", c.ProxyConfig.UserHeader)
	if strings.Contains(c.ProxyConfig.UserHeader, "_") {
		p.Add("PROXY_USER_HEADER", "must be spelled with - and not _, which many servers take for the same header")
	}
	if len(c.TrustedProxies) == 0 {
		p.Required("TRUSTED_PROXIES", "the CIDRs of the proxies that the session check proxy trusts")
	}
}

// proxyCheck trusts an authenticating proxy in front, which names the user in a header.
type proxyCheck struct {
	header  string
	trusted setting.Prefixes
	log     *slog.Logger
	ignored rate.Sometimes // limits the warning about an ignored header, which anyone can send
}

func newProxyCheck(c Config, deps Deps) check {
	return &proxyCheck{
		header: http.CanonicalHeaderKey(c.ProxyConfig.UserHeader), trusted: c.TrustedProxies,
		log: deps.Logger, ignored: rate.Sometimes{Interval: time.Minute},
	}
}

// Authenticate takes the user from the header if the connection's peer is a trusted proxy, and otherwise ignores the
// header. To net/http, spellings with an underscore or a dot are other headers.
func (p *proxyCheck) Authenticate(r *http.Request) (Result, error) {
	user, err := single(r, p.header)
	if !within(peer(r), p.trusted) {
		if len(r.Header[p.header]) == 0 {
			return Result{}, ErrNoCredential
		}
		p.ignored.Do(func() {
			p.log.Warn("header ignored: its sender is not within TRUSTED_PROXIES", "header", p.header, "peer", ClientIP(r, nil))
		})
		return Result{}, fmt.Errorf("%w: %s is ignored, its sender is not within TRUSTED_PROXIES", ErrNoCredential, p.header)
	}
	if err != nil {
		return Result{}, fmt.Errorf("%w (PROXY_USER_HEADER)", err)
	}
	name, err := userIn(user, p.header+" (PROXY_USER_HEADER)", unauthenticated)
	return Result{Identity: Identity{Name: name}}, err
}

func (p *proxyCheck) dependencies() []Dependency {
	var trusted []string
	for _, prefix := range p.trusted {
		trusted = append(trusted, prefix.String())
	}
	return []Dependency{localDependency("proxy", p.header+" from "+strings.Join(trusted, ", "))}
}
