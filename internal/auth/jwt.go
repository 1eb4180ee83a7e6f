package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sethealth/tokenvend/internal/secret"
)

const userAgent = "tokenvend"

// asymmetric is every algorithm that a public key may be used with, and symmetric those of a secret.
// "none" is on neither.
var (
	asymmetric = []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
		jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
	symmetric         = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}
	defaultAsymmetric = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.ES384, jose.EdDSA}
	defaultSymmetric  = []jose.SignatureAlgorithm{jose.HS256}
)

// JWTOptions are the options of the check "jwt". The keys come from exactly one of JWKSURL, PublicKey
// and Secret, or, if none is set, from the discovery document of Issuer.
type JWTOptions struct {
	// Issuer is the required iss; empty means any.
	Issuer    string
	JWKSURL   string
	PublicKey *secret.Var // PEM of one or more public keys or certificates; followed
	Secret    *secret.Var // HMAC secret of 32 bytes or more; followed
	// Audiences: the token must name one of them; nil means any.
	Audiences []string
	// Algorithms is the allow-list; empty means HS256 for a Secret, else RS256, PS256, ES256, ES384
	// and EdDSA.
	Algorithms []string
	// Cookie and Header name a cookie and a request header that may hold the bare JWT; empty means
	// none. The header is looked at first, then the bearer token, then the cookie.
	Cookie, Header string
	// SubjectClaim names the user; empty means sub.
	SubjectClaim string
	// RequiredClaims are all needed, or the caller is not entitled.
	RequiredClaims []RequiredClaim
	// Leeway is for the clocks behind exp, nbf and iat.
	Leeway time.Duration
	// Remember is how many tokens that were found good are remembered; 0 means 20,000.
	Remember int
	// Transport fetches key sets; nil means one of the check's own.
	Transport  http.RoundTripper
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// JWT checks a signed JSON Web Token (RFC 7519, with RFC 8725 as its guide).
type JWT struct {
	issuer, cookie, header, subject string
	audiences                       []string
	algorithms                      []jose.SignatureAlgorithm
	required                        []RequiredClaim
	leeway                          time.Duration
	keys                            keySource
	server                          *keyServer // keys again, if they are fetched; else nil
	verdicts                        *verdicts
}

// NewJWT makes the check. It fails on options that contradict each other and on a key that cannot be
// used, but never because an issuer cannot be reached: [JWT.Run] goes on asking.
func NewJWT(o JWTOptions) (*JWT, error) {
	j := &JWT{
		issuer: o.Issuer, cookie: o.Cookie, header: http.CanonicalHeaderKey(o.Header), subject: o.SubjectClaim,
		audiences: o.Audiences, required: o.RequiredClaims, leeway: o.Leeway,
	}
	if j.subject == "" {
		j.subject = "sub"
	}
	var err error
	if j.algorithms, err = allowList(o.Algorithms, o.Secret != nil); err != nil {
		return nil, err
	}
	if err := j.findKeys(o); err != nil {
		return nil, err
	}
	j.verdicts = newVerdicts("jwt", o.Remember, o.Registerer)
	return j, nil
}

func allowList(names []string, hmac bool) ([]jose.SignatureAlgorithm, error) {
	possible, list := asymmetric, defaultAsymmetric
	if hmac {
		possible, list = symmetric, defaultSymmetric
	}
	if len(names) == 0 {
		return list, nil
	}
	list = nil
	for _, name := range names {
		if !slices.Contains(possible, jose.SignatureAlgorithm(name)) {
			return nil, errors.New("auth: JWT_ALGORITHMS lists an algorithm that does not go with the key: " +
				"HS256, HS384, HS512 need JWT_SECRET, all others a public key, and none is never allowed")
		}
		list = append(list, jose.SignatureAlgorithm(name))
	}
	return list, nil
}

func (j *JWT) findKeys(o JWTOptions) error {
	sources := 0
	for _, set := range []bool{o.JWKSURL != "", o.PublicKey != nil, o.Secret != nil} {
		if set {
			sources++
		}
	}
	switch {
	case sources > 1:
		return errors.New("auth: only one of JWT_SECRET, JWT_PUBLIC_KEY and JWT_JWKS_URL may be set")
	case sources == 0 && o.Issuer == "":
		return errors.New("auth: the check jwt needs one of JWT_SECRET, JWT_PUBLIC_KEY, JWT_JWKS_URL and JWT_ISSUER")
	case o.PublicKey != nil:
		return j.follow(o.PublicKey, parsePEM, o.Logger)
	case o.Secret != nil:
		return j.follow(o.Secret, parseSecret, o.Logger)
	}
	j.server = newKeyServer(o)
	j.keys = j.server
	return nil
}

// follow uses the keys in a variable, as long as each algorithm of the list has one that fits, or, of a
// list that nobody chose, each key an algorithm.
func (j *JWT) follow(source *secret.Var, parse func(string) (*keySet, error), log *slog.Logger) error {
	keys, err := newFollowed(source, func(content string) (*keySet, error) {
		set, err := parse(content)
		if err != nil {
			return nil, err
		}
		for _, k := range set.keys {
			if !slices.ContainsFunc(j.algorithms, k.verifies) {
				return nil, errors.New("a key is of the wrong kind or too short for JWT_ALGORITHMS")
			}
		}
		return set, nil
	}, log)
	if err != nil {
		return fmt.Errorf("auth: %s: %w", source.Name(), err)
	}
	j.keys = keys
	return nil
}

func parseSecret(content string) (*keySet, error) {
	return &keySet{keys: []key{{material: []byte(content)}}}, nil
}

// Authenticate checks the request's token. A token that was found good is remembered until it ends, for
// a minute at most, and only as long as the keys stay the same.
func (j *JWT) Authenticate(r *http.Request) (Identity, error) {
	token, err := j.credential(r)
	if err != nil {
		return Identity{}, err
	}
	if len(token) > maxToken {
		return Identity{}, unauthenticated("token too long")
	}
	now := time.Now()
	h := j.verdicts.hash(token)
	if keys := j.keys.current(now); keys != nil {
		if subject, ok := j.verdicts.recall(h, keys, now); ok {
			return Identity{Subject: subject}, nil
		}
	}
	t, err := j.parse(token)
	if err != nil {
		return Identity{}, err
	}
	keys, fitting, err := j.keysFor(r.Context(), t, now)
	if err != nil {
		return Identity{}, err
	}
	if err := t.signedByOneOf(fitting); err != nil {
		return Identity{}, err
	}
	if err := j.readClaims(t, now); err != nil {
		return Identity{}, err
	}
	if err := t.satisfies(j.required); err != nil {
		return Identity{}, err
	}
	j.verdicts.remember(h, t.subject, keys, now, t.end)
	return Identity{Subject: t.subject}, nil
}

// credential finds the token. The first place that holds one decides, as with checks.
func (j *JWT) credential(r *http.Request) (string, error) {
	if j.header != "" {
		if token, err := single(r, j.header); !errors.Is(err, ErrNoCredential) {
			return token, err
		}
	}
	token, err := bearer(r)
	if j.cookie != "" && errors.Is(err, ErrNoCredential) {
		return cookie(r, j.cookie)
	}
	return token, err
}

// keysFor finds the keys that may have signed a token, and the set they are of. It asks for a newer set
// only for a token that names a key the set lacks, and whose claims, if they were true, would do: no
// token of a foreign issuer causes a fetch.
func (j *JWT) keysFor(ctx context.Context, t *token, now time.Time) (*keySet, []key, error) {
	for attempt := range 3 { // a fetch that was under way may be older than the key, so a second one is joined
		if keys := j.keys.current(now); keys != nil {
			if fitting, known := keys.match(t.keyID, t.algorithm); known {
				return keys, fitting, nil
			}
		}
		if attempt == 0 {
			if err := j.readClaims(t, now); err != nil {
				return nil, nil, err
			}
		}
		if attempt < 2 && j.keys.refresh(ctx) != nil {
			return nil, nil, unavailable("the session key set cannot be fetched at present")
		}
		now = time.Now()
	}
	return nil, nil, unauthenticated("signed with an unknown key")
}

// Run keeps a fetched key set fresh until ctx ends. It returns at once for keys that are not fetched.
func (j *JWT) Run(ctx context.Context) {
	if j.server != nil {
		j.server.run(ctx)
	}
}

// Ready reports whether there have been keys: always true for those that are not fetched.
func (j *JWT) Ready() bool { return j.server == nil || j.server.set.Load() != nil }

// Check fetches the key set once. The error says what is wrong, in one line.
func (j *JWT) Check(ctx context.Context) error {
	if j.server == nil {
		return nil
	}
	return j.server.check(ctx)
}

// State is what is known of the keys, in one line.
func (j *JWT) State() string {
	if j.server == nil {
		return "ok, keys from the environment"
	}
	return j.server.state()
}
