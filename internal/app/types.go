package app

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/secret"
)

// Credential is a secret of the environment: given as NAME, or as NAME_FILE that names a file, which is
// then followed.
type Credential struct {
	inline secret.Value
	// Var is the credential; nil if it was not given.
	Var *secret.Var
}

// Decode implements envconfig.Decoder.
func (c *Credential) Decode(value string) error { return c.inline.Decode(value) }

// IsSet reports whether the credential was given.
func (c *Credential) IsSet() bool { return c.Var != nil }

// List is a comma-separated list whose items are trimmed.
type List []string

// Decode implements envconfig.Decoder.
func (l *List) Decode(value string) error {
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			return errors.New("empty item")
		}
		*l = append(*l, strings.TrimSpace(item))
	}
	return nil
}

// Prefixes is a comma-separated list of CIDRs.
type Prefixes []netip.Prefix

// Decode implements envconfig.Decoder.
func (p *Prefixes) Decode(value string) error {
	var items List
	if err := items.Decode(value); err != nil {
		return err
	}
	for _, item := range items {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			return err
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}

// Claims are the name=value pairs of JWT_REQUIRED_CLAIMS.
type Claims []auth.RequiredClaim

// Decode implements envconfig.Decoder.
func (c *Claims) Decode(value string) error {
	var items List
	if err := items.Decode(value); err != nil {
		return err
	}
	for _, item := range items {
		name, want, ok := strings.Cut(item, "=")
		if name, want = strings.TrimSpace(name), strings.TrimSpace(want); !ok || name == "" || want == "" {
			return errors.New("not name=value")
		}
		*c = append(*c, auth.RequiredClaim{Name: name, Value: want})
	}
	return nil
}

// Rate is N per Per; the zero Rate is no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// Decode implements envconfig.Decoder.
func (r *Rate) Decode(value string) error {
	if value == "off" {
		return nil
	}
	n, per, _ := strings.Cut(value, "/")
	count, err := strconv.Atoi(strings.TrimSpace(n))
	if err != nil || count < 1 || count > 1_000_000 {
		return errors.New("no count")
	}
	duration, err := time.ParseDuration(strings.TrimSpace(per))
	if err != nil || duration < time.Millisecond || duration > 24*time.Hour {
		return errors.New("no duration")
	}
	if duration/time.Duration(count) < time.Microsecond { // in which the limiter counts
		return errors.New("too fast")
	}
	r.N, r.Per = count, duration
	return nil
}

// Port is a TCP port; the zero Port is none.
type Port uint16

// Decode implements envconfig.Decoder.
func (p *Port) Decode(value string) error {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return errors.New("no port")
	}
	*p = Port(n)
	return nil
}

// Switch is on or off.
type Switch bool

// Decode implements envconfig.Decoder.
func (s *Switch) Decode(value string) error {
	switch value {
	case "on":
		*s = true
	case "off":
		*s = false
	default:
		return errors.New("neither on nor off")
	}
	return nil
}

// mustBe says, for each type of variable, what its value must look like.
var mustBe = map[string]string{
	"time.Duration": "must be a duration such as 500ms, 10s or 1h30m",
	"bool":          "must be true or false",
	"int":           "must be a whole number",
	"app.List":      "must be a comma-separated list without empty items",
	"app.Prefixes":  "must be a comma-separated list of CIDRs such as 10.0.0.0/8",
	"app.Claims":    "must be a comma-separated list of name=value pairs",
	"app.Rate":      "must be N/duration such as 60/1m, at most a million a second, or off",
	"app.Port":      "must be a port, from 1 to 65535",
	"app.Switch":    "must be on or off",
}
