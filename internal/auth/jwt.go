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
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

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

	allowed []jose.SignatureAlgorithm // set by validateJWT
	static  *atomic.Pointer[keySet]   // the keys of Secret or PublicKey, set by validateJWT
}

var keyVariables = []string{"JWT_JWKS_URL", "JWT_PUBLIC_KEY", "JWT_PUBLIC_KEY_FILE", "JWT_SECRET", "JWT_SECRET_FILE"}

// anyAudience is the JWT_AUDIENCE that switches the check off.
const anyAudience = "any"

func (c *Config) validateJWT(p *setting.Problems) {
	j := &c.JWTConfig
	j.validateKeys(p, c.InsecureHTTPHosts)
	if len(j.Audience) == 0 {
		p.Required("JWT_AUDIENCE", "the aud of your API's tokens; any switches the check off")
	}
	if strings.Contains(strings.Join(j.Audience, ""), `"`) {
		p.Add("JWT_AUDIENCE", "must be a comma-separated list without quotes and brackets")
	}
	if len(j.Audience) > 1 && slices.Contains(j.Audience, anyAudience) {
		p.Add("JWT_AUDIENCE", "must be any, or a list of audiences")
	}
	if j.Cookie != "" {
		checkNames(p, "JWT_COOKIE", "the name of a cookie", j.Cookie)
	}
	if j.Header != "" {
		checkNames(p, "JWT_HEADER", "the name of a header", j.Header)
		if canonical := http.CanonicalHeaderKey(j.Header); canonical == "Authorization" || canonical == "Cookie" {
			p.Add("JWT_HEADER", "must be another header: Authorization is always read, and JWT_COOKIE names a cookie")
		}
	}
	checkPath(p, "JWT_SUBJECT_CLAIM", j.SubjectClaim)
	p.Between("JWT_LEEWAY", j.Leeway, 0, 5*time.Minute)
}

func (c *JWTConfig) validateKeys(p *setting.Problems, insecureHosts setting.List) {
	var err error
	if c.allowed, err = c.allowedAlgorithms(c.Algorithms); err != nil {
		p.Add("JWT_ALGORITHMS", "%s", err)
		c.allowed, _ = c.allowedAlgorithms(nil)
	}
	var given []string
	for _, source := range []secret.Source{c.Secret, c.PublicKey} {
		if source.IsSet() {
			given = append(given, source.Name())
			c.static = &atomic.Pointer[keySet]{}
			if err = follow(source, c.parseStatic, c.static.Store); err != nil {
				p.Add(source.Name(), "%s", err)
			}
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
	case len(given) == 0 && len(c.Issuers) == 0 && !slices.ContainsFunc(keyVariables, isInEnvironment):
		// A variable that is set but cannot be used is reported where it is read.
		p.Required("JWT_ISSUER", "or a key in JWT_JWKS_URL, JWT_PUBLIC_KEY or JWT_SECRET")
	}
	for n, iss := range c.Issuers {
		if slices.Contains(c.Issuers[:n], iss) {
			p.Add("JWT_ISSUER", "must name each issuer once")
		} else if strings.Contains(iss, "{") {
			p.Add("JWT_ISSUER", "must be an issuer of one tenant: "+listTenants)
		} else if len(given) > 0 {
			continue // it is only compared
		} else if err := setting.CheckURL(iss, insecureHosts); err != nil {
			p.Add("JWT_ISSUER", "%s", err)
		}
	}
}

// allowedAlgorithms returns the named algorithms or the default, with EdDSA under both of its names.
func (c *JWTConfig) allowedAlgorithms(names []string) (list []jose.SignatureAlgorithm, err error) {
	possible, usual := asymmetric, []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"}
	if c.Secret.IsSet() {
		possible, usual = symmetric, []string{"HS256"}
	}
	if names == nil {
		names = usual
	}
	for _, name := range names {
		algorithm := jose.SignatureAlgorithm(name)
		if !slices.Contains(possible, plainEdDSA(algorithm)) {
			return nil, fmt.Errorf("must be a list of algorithms that suit the key: %v", possible)
		}
		if list = append(list, algorithm); plainEdDSA(algorithm) == jose.EdDSA {
			list = append(list, jose.EdDSA, ed25519Name)
		}
	}
	return list, nil
}

// jwtCheck checks a signed JSON Web Token (RFC 7519, with RFC 8725 as its guide).
type jwtCheck struct {
	JWTConfig
	looked     string // where a token was looked for, for the error
	issuers    []*issuer
	remembered *remembered
}

func newJWTCheck(c Config, deps Deps) check {
	j := &jwtCheck{
		JWTConfig: c.JWTConfig, looked: "no bearer token",
		remembered: newRemembered("jwt", maxRemembered, deps),
	}
	if j.Header != "" {
		j.Header = http.CanonicalHeaderKey(j.Header)
		j.looked += ", no header " + j.Header + " (JWT_HEADER)"
	}
	if j.Cookie != "" {
		j.looked += ", no cookie " + j.Cookie + " (JWT_COOKIE)"
	}
	for _, name := range j.Issuers {
		j.issuers = append(j.issuers, &issuer{name: name, static: j.static})
	}
	if j.issuers == nil {
		j.issuers = []*issuer{{static: j.static}} // any
	}
	if j.static == nil {
		fetchKeys(j.issuers, c, deps)
	}
	return j
}

// Authenticate checks the request's token. An accepted one is remembered until it expires, for at most a minute, and
// only while all keys stay the same.
func (j *jwtCheck) Authenticate(r *http.Request) (Result, error) {
	compact, err := j.credential(r)
	if err != nil {
		return Result{}, err
	}
	if len(compact) > maxToken {
		return Result{}, unauthenticated("token is longer than 16 KiB")
	}
	return j.remembered.recallOr(j.keysInUse()+" "+compact, func() (Result, time.Time, error) {
		id, end, err := j.verify(r.Context(), compact, time.Now())
		return Result{Identity: id}, end, err
	})
}

// credential returns the token. The first place that holds one decides.
func (j *jwtCheck) credential(r *http.Request) (token string, err error) {
	err = ErrNoCredential
	if j.Header != "" {
		token, err = single(r, j.Header)
	}
	if errors.Is(err, ErrNoCredential) {
		token, err = bearer(r)
	}
	if j.Cookie != "" && errors.Is(err, ErrNoCredential) {
		token, err = cookie(r, j.Cookie)
	}
	if errors.Is(err, ErrNoCredential) {
		err = fmt.Errorf("%w: %s", err, j.looked)
	}
	return token, err
}

// verify applies all rules to a token, and returns until when it is valid.
func (j *jwtCheck) verify(ctx context.Context, compact string, now time.Time) (id Identity, end time.Time, err error) {
	t, err := j.parse(compact)
	if err != nil {
		return id, end, err
	}
	// The claims come before the signature: they name the issuer whose keys apply, and a token that would be
	// rejected anyway must not cause a fetch.
	id, end, err = j.readClaims(t.claims, now)
	if err != nil {
		return id, end, err
	}
	until, err := j.issuerOf(id.Issuer).verify(ctx, t, j.remembered.hash(compact))
	if err != nil {
		return id, end, err
	}
	for _, rule := range j.RequiredClaims {
		if claim, _ := t.claims.lookup(rule.path); !rule.matches(claim) {
			return id, end, forbidden("required claim " + rule.path + " is missing or has another value (JWT_REQUIRED_CLAIMS)")
		}
	}
	if until.Before(end) {
		end = until
	}
	return id, end, nil
}

// issuerOf returns the issuer of that name, the one that stands for any, or nil.
func (j *jwtCheck) issuerOf(name string) *issuer {
	for _, i := range j.issuers {
		if i.name == name || i.name == "" {
			return i
		}
	}
	return nil
}

// keysInUse changes whenever an issuer's keys do, and never returns to an old value.
func (j *jwtCheck) keysInUse() string {
	var sum uint64 // of serials that only grow
	for _, i := range j.issuers {
		if set := i.current().keySet; set != nil {
			sum += set.serial
		}
	}
	return strconv.FormatUint(sum, 10)
}

// ready reports whether the keys of at least one issuer have been loaded.
func (j *jwtCheck) ready() bool {
	return slices.ContainsFunc(j.issuers, func(i *issuer) bool { return i.current().keySet != nil })
}

// run refreshes key sets until ctx ends.
func (j *jwtCheck) run(ctx context.Context) {
	var running sync.WaitGroup
	for _, i := range j.issuers {
		if i.server != nil {
			running.Go(func() { i.server.run(ctx) })
		}
	}
	running.Wait()
}

func (j *jwtCheck) dependencies() (all []Dependency) {
	for _, i := range j.issuers {
		if i.server == nil {
			keys := localDependency("jwt", "keys from the environment")
			if manyTenants(i.name, "") {
				keys.Check = func(context.Context) error { return errManyTenants }
			}
			all = append(all, keys)
		} else {
			all = append(all, Dependency{"jwt", i.server.detail, i.server.check, i.server.state})
		}
	}
	return all
}

func (j *jwtCheck) warnings() (all []string) {
	if slices.Contains(j.Audience, anyAudience) {
		all = append(all, "JWT_AUDIENCE=any accepts tokens that the issuer issued for other applications")
	}
	if j.JWKSURL != "" && len(j.Issuers) == 0 {
		all = append(all, "JWT_JWKS_URL without JWT_ISSUER accepts tokens of every issuer that uses these keys, such as other tenants")
	}
	for _, i := range j.issuers {
		if set := i.current().keySet; set != nil {
			for _, line := range set.skipped {
				all = append(all, "key set of "+i.server.detail+": "+line)
			}
		}
	}
	return all
}
