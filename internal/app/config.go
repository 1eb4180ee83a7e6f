package app

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/kelseyhightower/envconfig"

	"github.com/sethealth/tokenvend/internal/api"
	"github.com/sethealth/tokenvend/internal/secret"
)

// Config is the environment, as the program reads it. The struct is the manual: `tokenvend help` and the
// README's table are made from its tags. Defaults that depend on other variables are described in
// "shown". [LoadConfig] fills and validates it as a whole.
type Config struct {
	SethealthKey            Credential    `envconfig:"SETHEALTH_KEY" shown:"required" desc:"the service account's API key"`
	SethealthSecret         Credential    `envconfig:"SETHEALTH_SECRET" shown:"required" desc:"the service account's API secret"`
	SethealthURL            string        `envconfig:"SETHEALTH_URL" default:"https://api.set.health" desc:"the API; http only for a loopback host"`
	SethealthTestMode       bool          `envconfig:"SETHEALTH_TEST_MODE" default:"false" desc:"sent as test-mode"`
	SethealthTimeout        time.Duration `envconfig:"SETHEALTH_TIMEOUT" default:"10s" desc:"all that one mint may take, retries included"`
	SethealthAttemptTimeout time.Duration `envconfig:"SETHEALTH_ATTEMPT_TIMEOUT" default:"4s" desc:"what one attempt of a mint may take"`
	SethealthMaxRetries     int           `envconfig:"SETHEALTH_MAX_RETRIES" default:"2" desc:"attempts after the first one; 0 to 5"`

	TokenTTL       time.Duration `envconfig:"TOKEN_TTL" default:"1h" desc:"sent as expires-in; 1s to 24h, or 0 for Sethealth's own default life (not cached then)"`
	TokenMinLife   time.Duration `envconfig:"TOKEN_MIN_LIFE" shown:"a quarter of TOKEN_TTL" desc:"a cached token with less left is replaced before it is handed out"`
	TokenUserID    string        `envconfig:"TOKEN_USER_ID" default:"subject" desc:"what is sent as user-id: subject, hashed (a keyed, stable pseudonym), none"`
	TokenCache     string        `envconfig:"TOKEN_CACHE" default:"memory" desc:"memory, redis, off"`
	TokenCacheSize int           `envconfig:"TOKEN_CACHE_SIZE" default:"100000" desc:"tokens in memory; the least used leave first"`
	RedisURL       Credential    `envconfig:"REDIS_URL" desc:"redis:// or rediss://; needed by TOKEN_CACHE=redis"`

	SessionCheck       List          `envconfig:"SESSION_CHECK" shown:"required" desc:"one or more of jwt, forward, introspection, proxy, in the order in which they are tried"`
	CORSAllowedOrigins List          `envconfig:"CORS_ALLOWED_ORIGINS" shown:"required" desc:"origins whose pages may ask: https://app.example.com, https://*.example.com; none for no page of another origin"`
	CORSMaxAge         time.Duration `envconfig:"CORS_MAX_AGE" default:"2h" desc:"how long a browser may remember a preflight"`
	RateLimit          Rate          `envconfig:"RATE_LIMIT" default:"60/1m" desc:"tokens per user, N/duration; off"`
	MaxInFlight        int           `envconfig:"MAX_IN_FLIGHT" default:"1000" desc:"requests to /token served at once"`

	JWTIssuer         string        `envconfig:"JWT_ISSUER" desc:"required iss; without a key below, its OpenID Connect discovery document names the key set"`
	JWTJWKSURL        string        `envconfig:"JWT_JWKS_URL" desc:"the key set"`
	JWTPublicKey      Credential    `envconfig:"JWT_PUBLIC_KEY" desc:"PEM, one or more public keys or certificates"`
	JWTSecret         Credential    `envconfig:"JWT_SECRET" desc:"HMAC secret, 32 bytes or more"`
	JWTAudience       List          `envconfig:"JWT_AUDIENCE" shown:"required by jwt" desc:"comma list, the token must name one; any switches the check off"`
	JWTAlgorithms     List          `envconfig:"JWT_ALGORITHMS" shown:"HS256 for a secret, else RS256,PS256,ES256,ES384,EdDSA" desc:"allow-list of signature algorithms"`
	JWTCookie         string        `envconfig:"JWT_COOKIE" desc:"name of a cookie that may hold the token"`
	JWTHeader         string        `envconfig:"JWT_HEADER" desc:"name of a header that may hold the bare token, such as Cf-Access-Jwt-Assertion"`
	JWTSubjectClaim   string        `envconfig:"JWT_SUBJECT_CLAIM" default:"sub" desc:"the claim that names the user"`
	JWTRequiredClaims Claims        `envconfig:"JWT_REQUIRED_CLAIMS" desc:"name=value pairs, comma separated, all needed; missing: 403"`
	JWTLeeway         time.Duration `envconfig:"JWT_LEEWAY" default:"30s" desc:"for exp, nbf and iat; at most 5m"`

	ForwardURL        string        `envconfig:"FORWARD_URL" shown:"required by forward" desc:"the endpoint of your backend that says who is signed in"`
	ForwardCookies    List          `envconfig:"FORWARD_COOKIES" shown:"all" desc:"names of the cookies to pass on"`
	ForwardUserHeader string        `envconfig:"FORWARD_USER_HEADER" default:"X-Auth-Request-User" desc:"response header that names the user"`
	ForwardUserField  string        `envconfig:"FORWARD_USER_FIELD" desc:"instead: path of a field in the JSON answer, such as user.id"`
	ForwardTimeout    time.Duration `envconfig:"FORWARD_TIMEOUT" default:"2s" desc:"what the endpoint may take"`
	ForwardCacheTTL   time.Duration `envconfig:"FORWARD_CACHE_TTL" default:"0s" desc:"remember a yes for this long; at most 1m"`

	IntrospectionURL           string        `envconfig:"INTROSPECTION_URL" shown:"required by introspection" desc:"the RFC 7662 endpoint"`
	IntrospectionClientID      string        `envconfig:"INTROSPECTION_CLIENT_ID" shown:"required by introspection" desc:"who asks it"`
	IntrospectionClientSecret  Credential    `envconfig:"INTROSPECTION_CLIENT_SECRET" shown:"required by introspection" desc:"with which secret"`
	IntrospectionRequiredScope string        `envconfig:"INTROSPECTION_REQUIRED_SCOPE" desc:"a scope that the token must have; missing: 403"`
	IntrospectionAudience      string        `envconfig:"INTROSPECTION_AUDIENCE" desc:"an audience that the token must name"`
	IntrospectionSubjectField  string        `envconfig:"INTROSPECTION_SUBJECT_FIELD" default:"sub" desc:"the member of the answer that names the user"`
	IntrospectionTimeout       time.Duration `envconfig:"INTROSPECTION_TIMEOUT" default:"2s" desc:"what the endpoint may take"`
	IntrospectionCacheTTL      time.Duration `envconfig:"INTROSPECTION_CACHE_TTL" default:"0s" desc:"remember a yes for this long, never past its exp; at most 1m"`

	ProxyUserHeader string   `envconfig:"PROXY_USER_HEADER" default:"X-Forwarded-User" desc:"request header by which a proxy within TRUSTED_PROXIES names the user"`
	TrustedProxies  Prefixes `envconfig:"TRUSTED_PROXIES" desc:"CIDRs of proxies whose X-Forwarded-For is believed, and whose user by the proxy check; required by proxy"`

	ListenAddr      string        `envconfig:"LISTEN_ADDR" shown:":8080" desc:"where to listen; PORT is honoured where this is not set"`
	Port            Port          `envconfig:"PORT" desc:"the port to listen on, as some platforms set it"`
	AdminAddr       string        `envconfig:"ADMIN_ADDR" default:"127.0.0.1:8081" desc:"metrics and detailed health; off for none"`
	BasePath        string        `envconfig:"BASE_PATH" desc:"prefix of all routes, such as /auth"`
	TLSCertFile     string        `envconfig:"TLS_CERT_FILE" desc:"PEM certificate chain, to serve TLS; a renewed pair is taken up without a restart"`
	TLSKeyFile      string        `envconfig:"TLS_KEY_FILE" desc:"PEM key of that certificate"`
	ShutdownDelay   time.Duration `envconfig:"SHUTDOWN_DELAY" default:"5s" desc:"how long /readyz says 503 before the listener closes"`
	ShutdownTimeout time.Duration `envconfig:"SHUTDOWN_TIMEOUT" default:"20s" desc:"what requests in flight may still take after that"`
	LogLevel        string        `envconfig:"LOG_LEVEL" default:"info" desc:"debug, info, warn, error"`
	LogFormat       string        `envconfig:"LOG_FORMAT" default:"json" desc:"json, text"`
	LogSubject      string        `envconfig:"LOG_SUBJECT" default:"plain" desc:"plain, or hashed: the pseudonym of TOKEN_USER_ID=hashed in place of the user's name"`
	ClientJS        Switch        `envconfig:"CLIENT_JS" default:"on" desc:"serve /client.js and /client.d.ts; off"`
	DebugPprof      bool          `envconfig:"DEBUG_PPROF" default:"false" desc:"serve /debug/pprof on the admin listener"`

	// Origins is CORS_ALLOWED_ORIGINS, understood.
	Origins api.Origins `ignored:"true"`
}

// Problem is one wrong or missing variable. It never holds a value.
type Problem struct{ Variable, Must string }

// ConfigError is all that is wrong with the environment at once.
type ConfigError []Problem

// Error is one line for each problem.
func (e ConfigError) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.Variable + ": " + p.Must
	}
	return strings.Join(lines, "\n")
}

// add appends a problem of a variable. Each variable is told once: what cannot be read looks missing to the
// rules that come after.
func (e *ConfigError) add(variable, format string, args ...any) {
	if e.names(variable) {
		return
	}
	*e = append(*e, Problem{variable, fmt.Sprintf(format, args...)})
}

func (e ConfigError) names(variable string) bool {
	for _, p := range e {
		if p.Variable == variable {
			return true
		}
	}
	return false
}

// only keeps the problems of variables that are needed.
func (e ConfigError) only(needed func(variable string) bool) (kept ConfigError) {
	for _, p := range e {
		if needed(p.Variable) {
			kept = append(kept, p)
		}
	}
	return kept
}

// LoadConfig reads the environment. Everything that is wrong with it comes back at once, and Config holds
// the rest.
func LoadConfig() (*Config, ConfigError) {
	c := &Config{}
	var problems ConfigError
	c.read(&problems)
	c.readFiles(&problems)
	c.validate(&problems)
	return c, problems
}

// read fills the struct. envconfig gives up at the first value it cannot decode, so that value is told
// and then taken out of the process's environment until nothing is left to complain of. Its own error
// texts print values and are never used.
func (c *Config) read(problems *ConfigError) {
	for _, f := range Variables() {
		if value, ok := os.LookupEnv(f.Name); ok {
			if trimmed := strings.TrimSpace(value); trimmed == "" {
				os.Unsetenv(f.Name)
			} else if trimmed != value && !f.HasFile { // a secret is taken to the byte
				os.Setenv(f.Name, trimmed)
			}
		}
	}
	for {
		err := envconfig.Process("", c)
		wrong, ok := errors.AsType[*envconfig.ParseError](err)
		if !ok {
			return
		}
		must, ok := mustBe[wrong.TypeName]
		if !ok {
			must = "cannot be read"
		}
		problems.add(wrong.KeyName, "%s", must)
		os.Unsetenv(wrong.KeyName)
		*c = Config{}
	}
}

// readFiles turns each Credential, given inline or by its _FILE twin, into a Var.
func (c *Config) readFiles(problems *ConfigError) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		credential, ok := v.Field(i).Addr().Interface().(*Credential)
		if !ok {
			continue
		}
		name := v.Type().Field(i).Tag.Get("envconfig")
		path := os.Getenv(name + fileSuffix)
		switch {
		case path == "" && !credential.inline.IsZero():
			credential.Var = secret.Static(name, credential.inline)
		case path != "" && !credential.inline.IsZero():
			problems.add(name, "is set as %s%s too: set one of them", name, fileSuffix)
			credential.Var = secret.Static(name, credential.inline)
		case path != "":
			var err error
			if credential.Var, err = secret.FromFile(name+fileSuffix, path); err != nil {
				problems.add(name+fileSuffix, "must name a file that can be read and is not empty")
			}
		}
	}
}

const fileSuffix = "_FILE"

// Variable describes one environment variable.
type Variable struct {
	Name, Default, Meaning string
	// HasFile: NAME_FILE may name a file that holds the value.
	HasFile bool
}

// Variables lists what the program reads, in the order of Config.
func Variables() (all []Variable) {
	for f := range reflect.TypeFor[Config]().Fields() {
		name, ok := f.Tag.Lookup("envconfig")
		if !ok {
			continue
		}
		shown := f.Tag.Get("shown")
		if shown == "" {
			shown = f.Tag.Get("default")
		}
		all = append(all, Variable{name, shown, f.Tag.Get("desc"), f.Type == reflect.TypeFor[Credential]()})
	}
	return all
}
