package auth

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// deniedUsers is DENIED_USERS_FILE: users who get no token, whichever check accepts them. A nil *deniedUsers
// denies nobody.
type deniedUsers struct {
	file  secret.Source
	names *atomic.Pointer[map[string]bool]
}

func openDeniedUsers(path string) (*deniedUsers, error) {
	file, err := secret.TextFile("DENIED_USERS_FILE", path)
	if err != nil {
		return nil, err
	}
	names, err := follow(file, parseDenied)
	return &deniedUsers{file, names}, err
}

// denies reports whether the user of that name gets no token. White space around a name does not count.
func (d *deniedUsers) denies(name string) bool {
	return d != nil && (*d.names.Load())[strings.TrimSpace(name)]
}

// run calls onChange after each change of the list, until ctx ends.
func (d *deniedUsers) run(ctx context.Context, onChange func()) {
	for seen := d.names.Load(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if now := d.names.Load(); now != seen {
			seen = now
			onChange()
		}
	}
}

// parseDenied reads one user a line. A "#" begins a comment at the beginning of a line alone, because it may
// stand in a name. A line that can be no name is an error: its user would not be denied.
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
