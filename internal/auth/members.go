package auth

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/strictjson"
)

// members is a JSON object from another party: claims, or an answer.
type members map[string]any

// lookup finds a member by its path: a name or, if there is no such member, names of nested objects joined by dots. A
// null on the path counts as found, with the value nil.
func (m members) lookup(path string) (value any, found bool) {
	if value, found = m[path]; found {
		return value, true
	}
	first, rest, deeper := strings.Cut(path, ".")
	if !deeper {
		return nil, false
	}
	switch inner := m[first].(type) {
	case map[string]any:
		return members(inner).lookup(rest)
	case nil:
		_, found = m[first]
	}
	return nil, found
}

// time reads seconds since 1970, possibly with a fraction (RFC 7519, section 2).
func (m members) time(name string) (at time.Time, ok bool) {
	number, ok := m[name].(strictjson.Number)
	seconds, err := strconv.ParseFloat(string(number), 64)
	if !ok || err != nil || math.Abs(seconds) > 1<<53 {
		return at, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// audience reports whether aud, a string or an array of strings, names one of wanted.
func (m members) audience(wanted ...string) (named, wellFormed bool) {
	list, ok := m["aud"].([]any)
	if !ok {
		list = []any{m["aud"]}
	}
	for _, one := range list {
		name, ok := one.(string)
		if !ok {
			return false, false
		}
		named = named || slices.Contains(wanted, name)
	}
	return named, true
}

func (m members) checkUnbound() error {
	if m["cnf"] != nil {
		return unauthenticated("token is bound to its sender (cnf), so it is not a bearer token")
	}
	return nil
}

// Rules are JWT_REQUIRED_CLAIMS: all must match.
type Rules []rule

// rule requires the claim at path to match one of values.
type rule struct {
	path   string
	values []string
}

// Decode implements envconfig.Decoder.
func (r *Rules) Decode(value string) error {
	*r = nil
	for _, item := range split(value, ',') {
		path, alternatives, ok := strings.Cut(item, "=")
		one := rule{path: unescape(strings.TrimSpace(path))}
		if !ok || slices.Contains(strings.Split(one.path, "."), "") {
			return errors.New("no path=value")
		}
		for _, alternative := range split(alternatives, '|') {
			literal := unescape(strings.TrimSpace(alternative))
			if literal == "" {
				return errors.New("no value")
			}
			one.values = append(one.values, literal)
		}
		*r = append(*r, one)
	}
	return nil
}

// MustBe says what a value must look like.
func (Rules) MustBe() string {
	return `a comma-separated list of path=value or path=value|value; a backslash makes , | and \ literal`
}

// split splits s at each separator that is not behind a backslash. The backslashes stay.
func split(s string, separator byte) (parts []string) {
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func unescape(s string) string {
	return strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\|`, `|`).Replace(s)
}

// matches reports whether the claim is one of the values, an array that holds one or, if it is named scope or scp, a
// string with one among its words.
func (r rule) matches(claim any) bool {
	list, isList := claim.([]any)
	if !isList {
		list = []any{claim}
	}
	name := r.path[strings.LastIndexByte(r.path, '.')+1:]
	if words, ok := claim.(string); ok && (name == "scope" || name == "scp") {
		for word := range strings.FieldsSeq(words) {
			list = append(list, word)
		}
	}
	return slices.ContainsFunc(list, func(value any) bool {
		text, _ := value.(string)
		switch value := value.(type) {
		case bool:
			text = strconv.FormatBool(value)
		case strictjson.Number:
			text = digits(value)
		}
		return text != "" && slices.Contains(r.values, text)
	})
}

// digits returns an integer as it was written, and nothing for other numbers.
func digits(n strictjson.Number) string {
	if strings.ContainsAny(n.String(), ".eE") {
		return ""
	}
	return n.String()
}
