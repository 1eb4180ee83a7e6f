package sethealth

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// Config configures requests to Sethealth.
type Config struct {
	Key            secret.Source `envconfig:"SETHEALTH_KEY" group:"Sethealth" shown:"required" desc:"the service account's API key"`
	Secret         secret.Source `envconfig:"SETHEALTH_SECRET" group:"Sethealth" shown:"required" desc:"the service account's API secret"`
	URL            string        `envconfig:"SETHEALTH_URL" group:"Sethealth" default:"https://api.set.health" desc:"the API; http:// only for a loopback host"`
	TestMode       bool          `envconfig:"SETHEALTH_TEST_MODE" group:"Sethealth" default:"false" desc:"sent as test-mode"`
	Timeout        time.Duration `envconfig:"SETHEALTH_TIMEOUT" group:"Sethealth" default:"10s" desc:"one token request in all, retries included"`
	AttemptTimeout time.Duration `envconfig:"SETHEALTH_ATTEMPT_TIMEOUT" group:"Sethealth" default:"4s" desc:"one attempt"`
	MaxRetries     int           `envconfig:"SETHEALTH_MAX_RETRIES" group:"Sethealth" default:"2" desc:"attempts after the first one; 0 to 5"`
	TTL            time.Duration `envconfig:"TOKEN_TTL" group:"Tokens" default:"1h" desc:"sent as expires-in; 1s to 24h, or 0 for Sethealth's own default (not cached then)"`
	UserID         string        `envconfig:"TOKEN_USER_ID" group:"Tokens" default:"subject" desc:"sent as user-id: subject, hashed (a keyed, stable pseudonym), none"`
}

// The values of Config.UserID.
const (
	userSubject = "subject"
	userHashed  = "hashed"
	userNone    = "none"
)

// Validate reports every invalid variable. It also makes reloads of the key file reject a public key.
func (c *Config) Validate() error {
	var p setting.Problems
	if c.Key.IsSet() {
		c.Key.SetValidator(checkKey)
		if err := checkKey(c.Key.Get().Reveal()); err != nil {
			p.Add(c.Key.Name(), "%s", err)
		}
	} else {
		p.Required("SETHEALTH_KEY", "the service account's API key")
	}
	if !c.Secret.IsSet() {
		p.Required("SETHEALTH_SECRET", "the service account's API secret")
	}
	if u, err := url.Parse(c.URL); err != nil || setting.CheckURL(c.URL, nil) != nil || u.RawQuery != "" || u.ForceQuery {
		p.Add("SETHEALTH_URL", "must be an https:// URL without user, query or fragment (http:// only for a loopback host)")
	}
	c.URL = strings.TrimRight(c.URL, "/")
	p.Between("SETHEALTH_TIMEOUT", c.Timeout, 10*time.Millisecond, 5*time.Minute)
	p.Between("SETHEALTH_ATTEMPT_TIMEOUT", c.AttemptTimeout, 10*time.Millisecond, 5*time.Minute)
	if c.MaxRetries < 0 || c.MaxRetries > 5 {
		p.Add("SETHEALTH_MAX_RETRIES", "must be from 0 to 5")
	}
	if c.TTL != 0 && (c.TTL < time.Second || c.TTL > 24*time.Hour) {
		p.Add("TOKEN_TTL", "must be from 1s to 24h, or 0")
	}
	p.OneOf("TOKEN_USER_ID", c.UserID, userSubject, userHashed, userNone)
	return p.Err()
}

func checkKey(key string) error {
	if strings.HasPrefix(key, "pub_") {
		return errors.New("must be the service account's API key, not the page's public key (pub_…)")
	}
	return nil
}
