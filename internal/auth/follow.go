package auth

import "github.com/sethealth/tokenvend/internal/secret"

// follow parses the content of a source and calls use, now and after each change. Content that cannot be parsed is
// refused.
func follow[T any](source secret.Source, parse func(content string) (T, error), use func(T)) error {
	take := func(content string) error {
		value, err := parse(content)
		if err == nil {
			use(value)
		}
		return err
	}
	source.SetValidator(take)
	return take(source.Get().Reveal())
}
