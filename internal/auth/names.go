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

// Names that say that nobody is signed in. The first one is what Azure AD B2C gives to everybody.
var (
	errEverybody = errors.New("is a placeholder that the provider gives to everybody; name another claim there, such as oid")
	errNobody    = errors.New("is a placeholder for nobody")
)

// nobody is what programs write in place of a name that they do not have: several users would be one.
var nobody = []string{"(null)", "null", "undefined", "[object Object]", "anonymousUser"}

// userIn reads the name of a user out of what was found there. A placeholder says that nobody is signed in; of
// what any other fault is an error, the check knows.
func userIn(value any, there string, fault func(why string) error) (string, error) {
	name, err := parseName(value)
	if err == nil {
		return name, nil
	}
	if errors.Is(err, errEverybody) || errors.Is(err, errNobody) {
		fault = unauthenticated
	}
	return "", fault("the user in " + there + " " + err.Error())
}

// parseName is the name of a user from a header, a claim or a member of a JSON document. An integer is its
// digits as they were written. The error says what was found, to follow the name of where it was.
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
	// U+FFFD is what decoders put in place of what they cannot read, so that several users would be one.
	case !utf8.ValidString(s), strings.ContainsRune(s, utf8.RuneError):
		return errors.New("is not UTF-8")
	case !strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.IsGraphic(r) && !unicode.IsSpace(r) }):
		return errors.New("is blank")
	case len(s) > maxName:
		return errors.New("is longer than 256 bytes")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("holds control characters")
	case strings.EqualFold(strings.Trim(s, " ."), "Not supported currently. Use oid claim"):
		return errEverybody
	}
	if slices.ContainsFunc(nobody, func(word string) bool { return strings.EqualFold(s, word) }) {
		return errNobody
	}
	return nil
}
