package auth

import (
	"sync/atomic"

	"github.com/sethealth/tokenvend/internal/secret"
)

// follow returns what the content of a source means. New content counts as soon as the source has been read
// again; what cannot be parsed is refused, and the old content stays.
func follow[T any](source secret.Source, parse func(content string) (*T, error)) (*atomic.Pointer[T], error) {
	current := &atomic.Pointer[T]{}
	take := func(content string) error {
		value, err := parse(content)
		if err == nil {
			current.Store(value)
		}
		return err
	}
	source.SetValidator(take)
	return current, take(source.Get().Reveal())
}
