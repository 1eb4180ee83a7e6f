package app

import (
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/auth"
)

func (c *Config) validateSessions(p *ConfigError) {
	type check struct {
		name     string
		validate func(*ConfigError)
	}
	checks := []check{
		{"jwt", c.validateJWT},
		{"forward", c.validateForward},
		{"introspection", c.validateIntrospection},
		{"proxy", c.validateProxy},
	}
	if len(c.SessionCheck) == 0 {
		p.missing("SESSION_CHECK", "one or more of jwt, forward, introspection, proxy; without a session check there is no service")
	}
	for i, name := range c.SessionCheck {
		switch {
		case !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }):
			p.add("SESSION_CHECK", "must be one or more of jwt, forward, introspection, proxy")
		case slices.Contains(c.SessionCheck[:i], name):
			p.add("SESSION_CHECK", "names a check twice")
		}
	}
	for _, check := range checks {
		switch {
		case slices.Contains(c.SessionCheck, check.name):
			check.validate(p)
		case p.names("SESSION_CHECK"):
			// It may be meant. What is set for it is told now and not at the next start; what is not set
			// may not be needed.
			var found ConfigError
			check.validate(&found)
			for _, problem := range found {
				if os.Getenv(problem.Variable) != "" {
					p.add(problem.Variable, "%s", problem.Must)
				}
			}
		}
	}
}

func (c *Config) validateProxy(p *ConfigError) {
	p.headerName("PROXY_USER_HEADER", c.ProxyUserHeader)
	if len(c.TrustedProxies) == 0 {
		p.missing("TRUSTED_PROXIES", "the CIDRs of the proxies that the proxy check believes")
	}
}

func (c *Config) validateJWT(p *ConfigError) {
	keys := 0
	for _, given := range []bool{c.JWTJWKSURL != "", c.JWTPublicKey.IsSet(), c.JWTSecret.IsSet()} {
		if given {
			keys++
		}
	}
	fileFailed := p.names("JWT_PUBLIC_KEY"+fileSuffix) || p.names("JWT_SECRET"+fileSuffix)
	switch {
	case keys > 1:
		p.add("JWT_SECRET", "only one of JWT_JWKS_URL, JWT_PUBLIC_KEY and JWT_SECRET may be set")
	case keys == 0 && c.JWTIssuer == "" && !fileFailed:
		p.missing("JWT_ISSUER", "or one of JWT_JWKS_URL, JWT_PUBLIC_KEY and JWT_SECRET: where the keys come from")
	case keys == 0 && c.JWTIssuer != "":
		p.url("JWT_ISSUER", c.JWTIssuer, baseURL)
	}
	if c.JWTJWKSURL != "" {
		p.url("JWT_JWKS_URL", c.JWTJWKSURL, encryptedURL)
	}
	if c.JWTPublicKey.IsSet() {
		if err := auth.CheckKey(c.JWTPublicKey.Var.Get(), c.JWTAlgorithms, false); err != nil {
			p.add(c.JWTPublicKey.Var.Name(), "must be PEM of public keys or certificates for JWT_ALGORITHMS: %s", err)
		}
	}
	if c.JWTSecret.IsSet() {
		if err := auth.CheckKey(c.JWTSecret.Var.Get(), c.JWTAlgorithms, true); err != nil {
			p.add(c.JWTSecret.Var.Name(), "must have 32 bytes or more, 48 for HS384, 64 for HS512")
		}
	}
	c.validateJWTRules(p)
}

func (c *Config) validateJWTRules(p *ConfigError) {
	switch {
	case len(c.JWTAudience) == 0:
		p.missing("JWT_AUDIENCE", "what the tokens' aud must name; any switches the check off")
	case len(c.JWTAudience) > 1 && slices.Contains(c.JWTAudience, "any"):
		p.add("JWT_AUDIENCE", "any must stand alone")
	}
	if err := auth.CheckAlgorithms(c.JWTAlgorithms, c.JWTSecret.IsSet()); err != nil {
		p.add("JWT_ALGORITHMS", "must be signature algorithms that fit the key: HS256, HS384 or HS512 with JWT_SECRET alone, else RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA; never none")
	}
	if c.JWTCookie != "" {
		p.token("JWT_COOKIE", c.JWTCookie, "a cookie's name")
	}
	if c.JWTHeader != "" {
		p.headerName("JWT_HEADER", c.JWTHeader)
	}
	p.between("JWT_LEEWAY", c.JWTLeeway, 0, 5*time.Minute)
}

func (c *Config) validateForward(p *ConfigError) {
	if c.ForwardURL == "" {
		p.missing("FORWARD_URL", "the endpoint of your backend that says who is signed in")
	} else {
		p.url("FORWARD_URL", c.ForwardURL, anyURL)
	}
	for _, name := range c.ForwardCookies {
		p.token("FORWARD_COOKIES", name, "names of cookies")
	}
	p.headerName("FORWARD_USER_HEADER", c.ForwardUserHeader)
	if c.ForwardUserField != "" && slices.Contains(strings.Split(c.ForwardUserField, "."), "") {
		p.add("FORWARD_USER_FIELD", "must be names joined by dots, such as user.id")
	}
	p.between("FORWARD_TIMEOUT", c.ForwardTimeout, 10*time.Millisecond, time.Minute)
	p.between("FORWARD_CACHE_TTL", c.ForwardCacheTTL, 0, time.Minute)
}

func (c *Config) validateIntrospection(p *ConfigError) {
	if c.IntrospectionURL == "" {
		p.missing("INTROSPECTION_URL", "the RFC 7662 endpoint")
	} else {
		p.url("INTROSPECTION_URL", c.IntrospectionURL, encryptedURL)
	}
	if c.IntrospectionClientID == "" {
		p.missing("INTROSPECTION_CLIENT_ID", "who asks the endpoint")
	}
	p.require("INTROSPECTION_CLIENT_SECRET", c.IntrospectionClientSecret, "with which secret")
	p.between("INTROSPECTION_TIMEOUT", c.IntrospectionTimeout, 10*time.Millisecond, time.Minute)
	p.between("INTROSPECTION_CACHE_TTL", c.IntrospectionCacheTTL, 0, time.Minute)
}

func (e *ConfigError) headerName(variable, value string) { e.token(variable, value, "a header's name") }

// token holds value to the grammar of names in HTTP (RFC 9110, section 5.6.2).
func (e *ConfigError) token(variable, value, what string) {
	if !httpguts.ValidHeaderFieldName(value) {
		e.add(variable, "must be %s", what)
	}
}
