package auth

import (
	"errors"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/sethealth/tokenvend/internal/secret"
)

// CheckKey reports what is wrong with JWT_SECRET or JWT_PUBLIC_KEY under the given JWT_ALGORITHMS, before
// a check is made of them. The error holds nothing of the key.
func CheckKey(key secret.Value, algorithms []string, hmac bool) error {
	list, err := allowList(algorithms, hmac)
	if err != nil { // which CheckAlgorithms tells
		list, _ = allowList(nil, hmac)
	}
	parse := parsePEM
	if hmac {
		parse = parseSecret
	}
	set, err := parse(key.Reveal())
	if err != nil {
		return err
	}
	if !set.fits(list) {
		return errors.New("a key is of the wrong kind or too short for JWT_ALGORITHMS")
	}
	return nil
}

// CheckAlgorithms reports whether JWT_ALGORITHMS goes with the kind of key.
func CheckAlgorithms(names []string, hmac bool) error {
	_, err := allowList(names, hmac)
	return err
}

// fits reports whether each key has an algorithm on the list.
func (s *keySet) fits(list []jose.SignatureAlgorithm) bool {
	for _, k := range s.keys {
		if !slices.ContainsFunc(list, k.verifies) {
			return false
		}
	}
	return true
}
