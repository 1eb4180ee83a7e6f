package auth

import (
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sethealth/tokenvend/internal/strictjson"
)

const maxName = 256

var errPlaceholder = errors.New("is a placeholder that names nobody; use another claim, such as oid")

// placeholders are sent by systems, in upper or lower case, for users whose name they do not know: all of these would
// be one user. The first is that of Azure AD B2C.
var placeholders = []string{
	"not supported currently. use oid claim", "(null)", "null", "undefined", "[object object]", "anonymoususer",
}

// userIn returns the name of the user in a value, which place describes. A placeholder means that nobody is signed in;
// for any other fault, the parameter fault makes the error.
func userIn(value any, place string, fault func(why string) error) (string, error) {
	name, err := parseName(value)
	if err == nil {
		return name, nil
	}
	if errors.Is(err, errPlaceholder) {
		fault = unauthenticated
	}
	return "", fault("the user in " + place + " " + err.Error())
}

// parseName returns the name of a user from a header, a claim or a JSON member. An integer becomes its digits as
// written. The error continues a sentence that begins with the place.
func parseName(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, checkName(v)
	case strictjson.Number:
		if digits(v) == "" {
			return "", errors.New("is a number with a fraction or an exponent")
		}
		return v.String(), checkName(v.String())
	case nil:
		return "", errors.New("is missing")
	case bool:
		return "", errors.New("is a boolean")
	case []any:
		return "", errors.New("is an array")
	default:
		return "", errors.New("is an object")
	}
}

func checkName(s string) error {
	switch {
	// Decoders replace what they cannot read by U+FFFD: different users would have the same name.
	case !utf8.ValidString(s), strings.ContainsRune(s, utf8.RuneError):
		return errors.New("is not UTF-8")
	case !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsGraphic(r) && !unicode.IsSpace(r) }):
		return errors.New("is blank")
	case len(s) > maxName:
		return errors.New("is longer than 256 bytes")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("holds control characters")
	case slices.Contains(placeholders, strings.ToLower(strings.Trim(s, " ."))):
		return errPlaceholder
	}
	return nil
}
