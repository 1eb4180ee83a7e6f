package auth

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// deniedUsers is the list in DENIED_USERS_FILE. The zero value denies nobody.
type deniedUsers struct {
	file    secret.Source
	names   atomic.Pointer[map[string]bool]
	changed func(denies func(name string) bool) // called after each change; may be nil
}

func (d *deniedUsers) open(path string) (err error) {
	if d.file, err = secret.TextFile("DENIED_USERS_FILE", path); err != nil {
		return errors.Unwrap(err) // without the variable
	}
	return follow(d.file, parseDenied, func(names *map[string]bool) {
		d.names.Store(names)
		if d.changed != nil {
			d.changed(d.denies)
		}
	})
}

// denies reports whether the user of that name gets no token. White space around the name is ignored.
func (d *deniedUsers) denies(name string) bool {
	names := d.names.Load()
	return names != nil && (*names)[strings.TrimSpace(name)]
}

// parseDenied reads one user per line. "#" begins a comment only at the start of a line, because names may contain
// it. A line that is not a valid name is an error: that user would not be denied.
func parseDenied(content string) (*map[string]bool, error) {
	names := map[string]bool{}
	number := 0
	for line := range strings.Lines(content) {
		number++
		name := strings.TrimSpace(line)
		if name == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := setting.Fault(name); err != nil {
			return nil, fmt.Errorf("line %d %w", number, err)
		}
		if _, err := parseName(name); err != nil {
			return nil, fmt.Errorf("line %d is not the name of a user: %w", number, err)
		}
		names[name] = true
	}
	return &names, nil
}
