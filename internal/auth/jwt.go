package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/net/http/httpguts"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// JWTConfig configures the check "jwt".
type JWTConfig struct {
	Issuers        setting.List  `envconfig:"JWT_ISSUER" group:"Session check jwt" desc:"required iss, or several; without a key below the keys of each come from its OpenID Connect discovery document"`
	JWKSURL        string        `envconfig:"JWT_JWKS_URL" group:"Session check jwt" desc:"the key set, for at most one issuer"`
	PublicKey      secret.Source `envconfig:"JWT_PUBLIC_KEY" group:"Session check jwt" desc:"PEM of one or more public keys or certificates"`
	Secret         secret.Source `envconfig:"JWT_SECRET" group:"Session check jwt" desc:"HMAC secret of 32 bytes or more; after the prefix base64: it is decoded first"`
	Audience       setting.List  `envconfig:"JWT_AUDIENCE" group:"Session check jwt" shown:"required by jwt" desc:"the token must name one of them; any switches the check off"`
	Algorithms     setting.List  `envconfig:"JWT_ALGORITHMS" group:"Session check jwt" shown:"HS256 with JWT_SECRET, else RS256,PS256,ES256,ES384,EdDSA" desc:"allowed signature algorithms"`
	Cookie         string        `envconfig:"JWT_COOKIE" group:"Session check jwt" desc:"cookie that may hold the token"`
	Header         string        `envconfig:"JWT_HEADER" group:"Session check jwt" desc:"request header that may hold the token"`
	SubjectClaim   string        `envconfig:"JWT_SUBJECT_CLAIM" group:"Session check jwt" default:"sub" desc:"path of the claim that names the user"`
	RequiredClaims Rules         `envconfig:"JWT_REQUIRED_CLAIMS" group:"Session check jwt" desc:"path=value or path=value|value, comma separated, all needed; missing: 403"`
	Leeway         time.Duration `envconfig:"JWT_LEEWAY" group:"Session check jwt" default:"30s" desc:"for exp, nbf and iat; at most 5m"`
}

// anyAudience is the JWT_AUDIENCE that switches the check off.
const anyAudience = "any"

func (c *JWTConfig) validate(p *setting.Problems, insecureHosts setting.List) {
	c.validateKeys(p, insecureHosts)
	if len(c.Audience) == 0 {
		p.Required("JWT_AUDIENCE", "the aud of your API's tokens; any switches the check off")
	}
	if len(c.Audience) > 1 && slices.Contains(c.Audience, anyAudience) {
		p.Add("JWT_AUDIENCE", "must be any, or a list of audiences")
	}
	if c.Cookie != "" && !httpguts.ValidHeaderFieldName(c.Cookie) { // the same grammar (RFC 6265, section 4.1.1)
		p.Add("JWT_COOKIE", "must be the name of a cookie")
	}
	if c.Header != "" {
		headerName(p, "JWT_HEADER", c.Header)
		if canonical := http.CanonicalHeaderKey(c.Header); canonical == "Authorization" || canonical == "Cookie" {
			p.Add("JWT_HEADER", "must be another header: Authorization is looked at anyway, and JWT_COOKIE names a cookie")
		}
	}
	memberPath(p, "JWT_SUBJECT_CLAIM", c.SubjectClaim)
	p.Between("JWT_LEEWAY", c.Leeway, 0, 5*time.Minute)
}

func (c *JWTConfig) validateKeys(p *setting.Problems, insecureHosts setting.List) {
	var given []string
	for _, source := range []secret.Source{c.Secret, c.PublicKey} {
		if source.IsSet() {
			given = append(given, source.Name())
		}
	}
	if c.JWKSURL != "" {
		given = append(given, "JWT_JWKS_URL")
		if err := setting.CheckURL(c.JWKSURL, insecureHosts); err != nil {
			p.Add("JWT_JWKS_URL", "%s", err)
		}
	}
	switch {
	case len(given) > 1:
		p.Add(given[0], "and %s are both set; set only one of JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL", given[1])
	case len(given) == 1 && len(c.Issuers) > 1:
		p.Add("JWT_ISSUER", "must be one issuer with %s; without it the keys of each are found by discovery", given[0])
	case len(given) == 0 && len(c.Issuers) == 0 && !p.Has("JWT_SECRET_FILE") && !p.Has("JWT_PUBLIC_KEY_FILE"):
		p.Required("JWT_ISSUER", "or a key in JWT_JWKS_URL, JWT_PUBLIC_KEY or JWT_SECRET")
	}
	for n, iss := range c.Issuers {
		if slices.Contains(c.Issuers[:n], iss) {
			p.Add("JWT_ISSUER", "must name each issuer once")
		} else if strings.Contains(iss, "{") {
			p.Add("JWT_ISSUER", "must be an issuer of one tenant: "+listTenants)
		} else if len(given) > 0 {
			continue // it is compared and never asked
		} else if err := setting.CheckURL(iss, insecureHosts); err != nil {
			p.Add("JWT_ISSUER", "%s", err)
		}
	}
	keys := *c
	if _, err := c.allowed(); err != nil {
		p.Add("JWT_ALGORITHMS", "%s", err)
		keys.Algorithms = nil
	}
	if source := keys.static(); source.IsSet() {
		if _, err := keys.parseStatic(source.Get().Reveal()); err != nil {
			p.Add(source.Name(), "must be %s", err)
		}
	}
}

// static is the variable that holds the keys themselves, if one does.
func (c *JWTConfig) static() secret.Source {
	if c.Secret.IsSet() {
		return c.Secret
	}
	return c.PublicKey
}

// allowed is JWT_ALGORITHMS with both names of EdDSA, or its default.
func (c *JWTConfig) allowed() (list []jose.SignatureAlgorithm, err error) {
	possible, names := asymmetric, []string(c.Algorithms)
	if c.Secret.IsSet() {
		possible = symmetric
	}
	if names == nil {
		names = []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}
		if c.Secret.IsSet() {
			names = []string{"HS256"}
		}
	}
	for _, name := range names {
		algorithm := jose.SignatureAlgorithm(name)
		if !slices.Contains(possible, plainEdDSA(algorithm)) {
			return nil, fmt.Errorf("must be a list of those that go with the key: %v", possible)
		}
		if list = append(list, algorithm); plainEdDSA(algorithm) == jose.EdDSA {
			list = append(list, jose.EdDSA, ed25519Name)
		}
	}
	return list, nil
}

func (c *JWTConfig) warnings() (all []string) {
	if slices.Contains(c.Audience, anyAudience) {
		all = append(all, "JWT_AUDIENCE=any accepts tokens that the issuer made for other applications")
	}
	if c.JWKSURL != "" && len(c.Issuers) == 0 {
		all = append(all, "JWT_JWKS_URL without JWT_ISSUER accepts tokens of every issuer that uses these keys, such as other tenants")
	}
	return all
}

// jwtCheck checks a signed JSON Web Token (RFC 7519, with RFC 8725 as its guide).
type jwtCheck struct {
	JWTConfig
	allowedAlgorithms []jose.SignatureAlgorithm
	issuers           []*issuer
	remembered        *remembered
}

func newJWTCheck(c JWTConfig, insecureHosts setting.List, deps Deps) (*jwtCheck, error) {
	c.Header = http.CanonicalHeaderKey(c.Header)
	allowed, err := c.allowed()
	if err != nil {
		return nil, fmt.Errorf("JWT_ALGORITHMS %w", err)
	}
	j := &jwtCheck{JWTConfig: c, allowedAlgorithms: allowed, remembered: newRemembered("jwt", deps)}
	names := c.Issuers
	if len(names) == 0 {
		names = []string{""} // any
	}
	static := c.static()
	for _, name := range names {
		i := &issuer{name: name}
		if static.IsSet() {
			if i.keys, err = newStaticKeys(static, c.parseStatic, deps.Logger); err != nil {
				return nil, err
			}
		} else {
			i.server = newKeyServer(name, c.JWKSURL, allowed, insecureHosts, deps)
			i.keys = i.server
		}
		j.issuers = append(j.issuers, i)
	}
	if !static.IsSet() {
		registerKeyServers(deps.Registerer, j.issuers)
	}
	return j, nil
}

// Authenticate checks the request's token. An accepted one is remembered until it ends, for a minute at
// most, and only as long as all keys stay the same.
func (j *jwtCheck) Authenticate(r *http.Request) (Result, error) {
	compact, err := j.credential(r)
	if err != nil {
		return Result{}, err
	}
	if len(compact) > maxToken {
		return Result{}, unauthenticated("token is longer than 16 KiB")
	}
	now := time.Now()
	h := j.remembered.hash(j.keysInUse(now), compact)
	if id, ok := j.remembered.recall(h, now); ok {
		return Result{Identity: id}, nil
	}
	t, err := j.parse(compact)
	if err != nil {
		return Result{}, err
	}
	// The claims come before the signature: they name the issuer whose keys count, and no token that would
	// be rejected anyway makes us fetch keys.
	id, end, err := j.readClaims(t.claims, now)
	if err != nil {
		return Result{}, err
	}
	until, err := j.issuerOf(id.Issuer).verify(r.Context(), t, j.remembered.hash(compact))
	if err != nil {
		return Result{}, err
	}
	for _, rule := range j.RequiredClaims {
		if claim, _ := lookup(t.claims, rule.path); !rule.matches(claim) {
			return Result{Identity: id}, forbidden("required claim " + rule.path + " is missing or has another value (JWT_REQUIRED_CLAIMS)")
		}
	}
	if end.Before(until) {
		until = end
	}
	j.remembered.remember(h, id, now, until)
	return Result{Identity: id}, nil
}

// credential finds the token. The first place that holds one decides, as with checks.
func (j *jwtCheck) credential(r *http.Request) (string, error) {
	looked := "no bearer token"
	if j.Header != "" {
		if token, err := single(r, j.Header); !errors.Is(err, ErrNoCredential) {
			return token, err
		}
		looked += ", no header " + j.Header + " (JWT_HEADER)"
	}
	token, err := bearer(r)
	if j.Cookie != "" && errors.Is(err, ErrNoCredential) {
		token, err = cookie(r, j.Cookie)
		looked += ", no cookie " + j.Cookie + " (JWT_COOKIE)"
	}
	if errors.Is(err, ErrNoCredential) {
		return "", fmt.Errorf("%w: %s", err, looked)
	}
	return token, err
}

// issuerOf is the one of that name, or the one that stands for any, or nil.
func (j *jwtCheck) issuerOf(name string) *issuer {
	for _, i := range j.issuers {
		if i.name == name || i.name == "" {
			return i
		}
	}
	return nil
}

// keysInUse changes whenever the keys of an issuer do, and never back.
func (j *jwtCheck) keysInUse(now time.Time) string {
	var sum uint64 // of terms that only grow
	for _, i := range j.issuers {
		if set, _ := i.keys.current(now); set != nil {
			sum += set.serial
		}
	}
	return strconv.FormatUint(sum, 10)
}

// ready reports whether there have been keys of one issuer.
func (j *jwtCheck) ready() bool {
	return slices.ContainsFunc(j.issuers, func(i *issuer) bool { return i.server == nil || i.server.set.Load() != nil })
}

// run keeps fetched keys fresh until ctx ends.
func (j *jwtCheck) run(ctx context.Context) {
	var running sync.WaitGroup
	for _, i := range j.issuers {
		if i.server != nil {
			running.Go(func() { i.server.run(ctx) })
		}
	}
	running.Wait()
}
