package auth

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/setting"
)

// DeniedUsers is DENIED_USERS_FILE: users who get no token, whichever check accepts them. A nil
// *DeniedUsers denies nobody.
type DeniedUsers struct {
	file secret.Source
	log  *slog.Logger
	list atomic.Pointer[deniedList]
}

type deniedList struct {
	from  secret.Value // the content that it was read from
	names map[string]bool
}

// NewDeniedUsers reads the list, and from then on refuses new content of the file that is no list of
// users. It is for the caller to have the file read again, by a [secret.Watcher].
func NewDeniedUsers(file secret.Source, log *slog.Logger) (*DeniedUsers, error) {
	d := &DeniedUsers{file: file, log: log}
	content := file.Get()
	names, err := parseDenied(content.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	d.list.Store(&deniedList{content, names})
	file.SetValidator(func(content string) error {
		_, err := parseDenied(content)
		return err
	})
	return d, nil
}

// Denied reports whether the user of that name gets no token. White space around a name does not count.
func (d *DeniedUsers) Denied(name string) bool {
	return d != nil && d.current().names[strings.TrimSpace(name)]
}

// current is the list of the file's present content: in use as soon as the file has been read again.
func (d *DeniedUsers) current() *deniedList {
	list, content := d.list.Load(), d.file.Get()
	if list.from == content {
		return list
	}
	names, err := parseDenied(content.Reveal())
	if err != nil {
		return list
	}
	next := &deniedList{content, names}
	d.list.CompareAndSwap(list, next)
	return next
}

// Run calls onChange after each change of the list, until ctx ends.
func (d *DeniedUsers) Run(ctx context.Context, onChange func()) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for seen := d.current().from; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if list := d.current(); list.from != seen {
			seen = list.from
			d.log.Info("list of denied users updated", "users", len(list.names))
			onChange()
		}
	}
}

// parseDenied reads one user a line. A "#" begins a comment at the beginning of a line alone, because it may
// stand in a name. A line that can be no name is an error: its user would not be denied.
func parseDenied(content string) (map[string]bool, error) {
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
	return names, nil
}
