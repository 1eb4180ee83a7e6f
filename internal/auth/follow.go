package auth

import "github.com/sethealth/tokenvend/internal/secret"

// follow calls use with what the content of a source means, now and whenever it has changed. Content that cannot
// be parsed is refused.
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
