package app

import (
	"cmp"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/netaddr"
	"github.com/sethealth/tokenvend/internal/redisx"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// validate holds the rules of single variables and those across several, and fills in the defaults that
// follow from others. It appends to problems all that is wrong.
func (c *Config) validate(problems *ConfigError) {
	c.validateSethealth(problems)
	c.validateTokens(problems)
	c.validateBrowsers(problems)
	c.validateListeners(problems)
	c.validateSessions(problems)
}

func (c *Config) validateSethealth(p *ConfigError) {
	p.require("SETHEALTH_KEY", c.SethealthKey, "the service account's API key")
	p.require("SETHEALTH_SECRET", c.SethealthSecret, "the service account's API secret")
	p.url("SETHEALTH_URL", c.SethealthURL, baseURL)
	c.SethealthURL = strings.TrimRight(c.SethealthURL, "/")
	p.between("SETHEALTH_TIMEOUT", c.SethealthTimeout, 10*time.Millisecond, 5*time.Minute)
	p.between("SETHEALTH_ATTEMPT_TIMEOUT", c.SethealthAttemptTimeout, 10*time.Millisecond, 5*time.Minute)
	if c.SethealthMaxRetries < 0 || c.SethealthMaxRetries > 5 {
		p.add("SETHEALTH_MAX_RETRIES", "must be from 0 to 5")
	}
}

func (c *Config) validateTokens(p *ConfigError) {
	if c.TokenTTL != 0 {
		p.between("TOKEN_TTL", c.TokenTTL, time.Second, 24*time.Hour)
	}
	switch {
	case c.TokenMinLife == 0:
		c.TokenMinLife = c.TokenTTL / 4
	case c.TokenMinLife < 0, c.TokenTTL != 0 && c.TokenMinLife >= c.TokenTTL:
		p.add("TOKEN_MIN_LIFE", "must be positive and below TOKEN_TTL")
	}
	p.oneOf("TOKEN_USER_ID", c.TokenUserID, "subject", "hashed", "none")
	p.oneOf("TOKEN_CACHE", c.TokenCache, "memory", "redis", "off")
	if c.TokenCacheSize < 1 || c.TokenCacheSize > 100_000_000 {
		p.add("TOKEN_CACHE_SIZE", "must be from 1 to 100000000")
	}
	if c.TokenCache == "redis" {
		p.require("REDIS_URL", c.RedisURL, "a redis:// or rediss:// URL, for TOKEN_CACHE=redis")
	}
	if c.RedisURL.IsSet() && (c.TokenCache == "redis" || p.names("TOKEN_CACHE")) {
		if err := redisx.ValidURL(c.RedisURL.Var.Get()); err != nil {
			p.add(c.RedisURL.Var.Name(), "%s", err)
		}
	}
}

func (c *Config) validateBrowsers(p *ConfigError) {
	if len(c.CORSAllowedOrigins) == 0 {
		p.missing("CORS_ALLOWED_ORIGINS", "the origins whose pages may ask for a token, or none")
	} else if origins, err := api.ParseOrigins(c.CORSAllowedOrigins); err != nil {
		p.add("CORS_ALLOWED_ORIGINS", "%s", err)
	} else {
		c.Origins = origins
	}
	p.between("CORS_MAX_AGE", c.CORSMaxAge, 0, 24*time.Hour)
	if c.MaxInFlight < 1 || c.MaxInFlight > 1_000_000 {
		p.add("MAX_IN_FLIGHT", "must be from 1 to 1000000")
	}
}

var basePath = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

func (c *Config) validateListeners(p *ConfigError) {
	if c.ListenAddr == "" {
		c.ListenAddr = ":" + strconv.Itoa(int(cmp.Or(c.Port, 8080)))
	}
	p.address("LISTEN_ADDR", c.ListenAddr)
	if c.AdminAddr != "off" {
		p.address("ADMIN_ADDR", c.AdminAddr)
	}
	if c.BasePath != "" && !basePath.MatchString(c.BasePath) {
		p.add("BASE_PATH", "must be a path such as /auth: a leading slash, no trailing one, letters, digits and . _ ~ -")
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		p.missing(map[bool]string{true: "TLS_CERT_FILE", false: "TLS_KEY_FILE"}[c.TLSCertFile == ""], "the other half of the TLS pair")
	} else if c.TLSCertFile != "" {
		if _, err := newCertificate(c.TLSCertFile, c.TLSKeyFile); err != nil {
			p.add("TLS_CERT_FILE", "must, with TLS_KEY_FILE, name a PEM certificate chain and its key")
		}
	}
	p.between("SHUTDOWN_DELAY", c.ShutdownDelay, 0, 10*time.Minute)
	p.between("SHUTDOWN_TIMEOUT", c.ShutdownTimeout, 0, 10*time.Minute)
	p.oneOf("LOG_LEVEL", c.LogLevel, "debug", "info", "warn", "error")
	p.oneOf("LOG_FORMAT", c.LogFormat, "json", "text")
	p.oneOf("LOG_SUBJECT", c.LogSubject, "plain", "hashed")
	for _, wrong := range telemetry.CheckTracing() {
		p.add(wrong.Variable, "%s", wrong.Must)
	}
}

// Rules for one variable each. They never put the value into the text.

func (e *ConfigError) missing(variable, what string) { e.add(variable, "is required: %s", what) }

func (e *ConfigError) require(variable string, c Credential, what string) {
	if !c.IsSet() && !e.names(variable+fileSuffix) {
		e.missing(variable, what+" (or "+variable+fileSuffix+")")
	}
}

func (e *ConfigError) oneOf(variable, value string, words ...string) {
	if !slices.Contains(words, value) {
		e.add(variable, "must be %s", strings.Join(words, " or "))
	}
}

func (e *ConfigError) between(variable string, d, least, most time.Duration) {
	if d < least || d > most {
		e.add(variable, "must be from %s to %s", least, most)
	}
}

func (e *ConfigError) address(variable, value string) {
	if _, port, err := net.SplitHostPort(value); err == nil {
		if _, err = strconv.ParseUint(port, 10, 16); err == nil {
			return
		}
	}
	e.add(variable, "must be an address such as :8080 or 127.0.0.1:8080")
}

// How a URL may be reached.
type urlRule struct {
	must             string
	plaintext, query bool
}

var (
	baseURL      = urlRule{must: "must be an https:// URL (http:// only for a loopback host), without user, query or fragment"}
	encryptedURL = urlRule{must: "must be an https:// URL (http:// only for a loopback host), without user or fragment", query: true}
	anyURL       = urlRule{must: "must be an http:// or https:// URL without user or fragment", plaintext: true, query: true}
)

func (e *ConfigError) url(variable, value string, rule urlRule) {
	u, err := url.Parse(value)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" && !rule.query ||
		u.Scheme != "https" && (u.Scheme != "http" || !rule.plaintext && !netaddr.IsLoopback(u.Hostname())) {
		e.add(variable, "%s", rule.must)
	}
}
