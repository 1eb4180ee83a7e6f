// Package setting has the rules that environment variables share: types of values, values that are probably mistakes,
// and errors that name a variable and never show its value.
//
// Each package that is configured owns a Config whose Validate collects [Problems].
package setting

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Problem is one wrong or missing variable.
type Problem struct{ Variable, Fault string }

// Error is one line: the variable, and what it must be.
func (p *Problem) Error() string { return p.Variable + " " + p.Fault }

// Problems are the faults of a configuration, at most one for each variable.
type Problems []*Problem

// Add records that a variable "must be …". Only the first fault of a variable is kept.
func (p *Problems) Add(variable, format string, args ...any) {
	if !p.Has(variable) {
		*p = append(*p, &Problem{variable, fmt.Sprintf(format, args...)})
	}
}

// Required records that a variable is missing, and what it is for.
func (p *Problems) Required(variable, what string) { p.Add(variable, "is required (%s)", what) }

// Between records a fault if d is out of bounds.
func (p *Problems) Between(variable string, d, least, most time.Duration) {
	if d < least || d > most {
		p.Add(variable, "must be from %s to %s", least, most)
	}
}

// OneOf records a fault if the value is none of the words.
func (p *Problems) OneOf(variable, value string, words ...string) {
	if !slices.Contains(words, value) {
		p.Add(variable, "must be %s", strings.Join(words, " or "))
	}
}

// Has reports whether there is a fault of that variable.
func (p Problems) Has(variable string) bool {
	return slices.ContainsFunc(p, func(known *Problem) bool { return known.Variable == variable })
}

// Error has a line for each fault.
func (p Problems) Error() string {
	var lines []string
	for _, problem := range p {
		lines = append(lines, problem.Error())
	}
	return strings.Join(lines, "\n")
}

// Err returns the faults as one error, or nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Each returns the faults in an error of [Problems.Err].
func Each(err error) []*Problem {
	problems, _ := errors.AsType[Problems](err)
	return problems
}

// Fault returns an error if a value is probably a mistake: in quotes, with a byte order mark or control characters. PEM
// may have several lines. The error does not show the value.
func Fault(value string) error {
	if IsPEM(value) {
		value = strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(value)
	}
	switch {
	case strings.HasPrefix(value, "\ufeff"), strings.HasPrefix(value, "\xff\xfe"), strings.HasPrefix(value, "\xfe\xff"):
		return errors.New("begins with a byte order mark; save it as UTF-8 without one")
	case !utf8.ValidString(value):
		return errors.New("is not UTF-8")
	case strings.ContainsRune(value, 0):
		return errors.New("holds NUL bytes; save it as UTF-8, not UTF-16")
	case strings.ContainsFunc(value, unicode.IsControl):
		return errors.New("holds control characters or more than one line")
	case len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]:
		return errors.New("is in quotes; leave them out")
	}
	return nil
}

// IsPEM reports whether a value is PEM (RFC 7468).
func IsPEM(value string) bool { return strings.Contains(value, "-----BEGIN ") }

// List is a comma-separated list whose items are trimmed.
type List []string

// Decode implements envconfig.Decoder.
func (l *List) Decode(value string) error {
	*l = nil
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			return errors.New("empty item")
		}
		*l = append(*l, item)
	}
	return nil
}

// MustBe says what a value must look like.
func (List) MustBe() string { return "a comma-separated list without empty items" }

// Prefixes is a comma-separated list of CIDRs.
type Prefixes []netip.Prefix

// Decode implements envconfig.Decoder.
func (p *Prefixes) Decode(value string) error {
	var items List
	if err := items.Decode(value); err != nil {
		return err
	}
	*p = nil
	for _, item := range items {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			return err
		}
		if prefix.Addr().Is4In6() {
			return errors.New("IPv4-mapped")
		}
		*p = append(*p, prefix.Masked())
	}
	return nil
}

// MustBe says what a value must look like.
func (Prefixes) MustBe() string {
	return "a comma-separated list of CIDRs such as 10.0.0.0/8, IPv4 ones not written as IPv6"
}

// Switch is on or off.
type Switch bool

// Decode implements envconfig.Decoder.
func (s *Switch) Decode(value string) error {
	if value != "on" && value != "off" {
		return errors.New("neither on nor off")
	}
	*s = value == "on"
	return nil
}

// MustBe says what a value must look like.
func (Switch) MustBe() string { return "on or off" }
