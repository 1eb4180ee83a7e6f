package auth

import (
	"context"
	"net/http"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// JWTConfig configures the check "jwt".
type JWTConfig struct {
	Issuers        setting.List  `envconfig:"JWT_ISSUER" group:"Session check jwt" desc:"required iss; without a key below each issuer's keys come from its OpenID Connect discovery document"`
	JWKSURL        string        `envconfig:"JWT_JWKS_URL" group:"Session check jwt" desc:"the key set, for at most one issuer"`
	PublicKey      secret.Source `envconfig:"JWT_PUBLIC_KEY" group:"Session check jwt" desc:"PEM of one or more public keys or certificates"`
	Secret         secret.Source `envconfig:"JWT_SECRET" group:"Session check jwt" desc:"HMAC secret of 32 bytes or more; base64: before an encoded one"`
	Audience       setting.List  `envconfig:"JWT_AUDIENCE" group:"Session check jwt" shown:"required by jwt" desc:"the token must name one of them; any switches the check off"`
	Algorithms     setting.List  `envconfig:"JWT_ALGORITHMS" group:"Session check jwt" shown:"HS256 with JWT_SECRET, else RS256,PS256,ES256,ES384,EdDSA" desc:"allowed signature algorithms"`
	Cookie         string        `envconfig:"JWT_COOKIE" group:"Session check jwt" desc:"cookie that may hold the token"`
	Header         string        `envconfig:"JWT_HEADER" group:"Session check jwt" desc:"request header that may hold the token"`
	SubjectClaim   string        `envconfig:"JWT_SUBJECT_CLAIM" group:"Session check jwt" default:"sub" desc:"path of the claim that names the user"`
	RequiredClaims Rules         `envconfig:"JWT_REQUIRED_CLAIMS" group:"Session check jwt" desc:"path=value or path=value|value, comma separated, all needed; missing: 403"`
	Leeway         time.Duration `envconfig:"JWT_LEEWAY" group:"Session check jwt" default:"30s" desc:"for exp, nbf and iat; at most 5m"`
}

func (c *JWTConfig) validate(*setting.Problems, setting.List) {}

func (c *JWTConfig) warnings() []string { return nil }

type jwtCheck struct{ issuers []*issuer }

type issuer struct{}

func newJWTCheck(JWTConfig, setting.List, Deps) (*jwtCheck, error) { return &jwtCheck{}, nil }

func (j *jwtCheck) Authenticate(*http.Request) (Result, error) { return Result{}, ErrNoCredential }

func (j *jwtCheck) ready() bool { return true }

func (j *jwtCheck) run(context.Context) {}

func (i *issuer) detail() string { return "" }

// Check fetches the key set once, for the operator.
func (i *issuer) Check(context.Context) error { return nil }

// State is what is known of the keys, in one line.
func (i *issuer) State() string { return "" }
