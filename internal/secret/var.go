package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// followEvery is how often followed files are read. The promise is that a new content is taken up
// within 10 s. Reading beats watching: it sees the symbolic-link swap of a Kubernetes volume, a bind
// mount and a network file system alike.
const followEvery = 3 * time.Second

// maxFile bounds what is read from a file, in bytes.
const maxFile = 1 << 20

// What a file must not be. An empty one is half of a rotation, or a mistake.
var (
	errEmpty    = errors.New("the file is empty")
	errTooLarge = errors.New("the file is larger than 1 MiB")
)

// Var is a credential, or other file content, that may change while the service runs. A Var made by
// [Static] never does; one made by [FromFile] does when it is read again.
type Var struct {
	name, path string
	reading    sync.Mutex                 // an older content never replaces a newer one
	usable     func(content string) error // nil if any content is
	current    atomic.Pointer[Value]
}

// Static is a Var that holds v for good. The name is that of its environment variable.
func Static(name string, v Value) *Var {
	s := &Var{name: name}
	s.current.Store(&v)
	return s
}

// FromFile is a Var that holds the content of the file at path, less one trailing newline. It fails if
// the file cannot be read or is empty.
func FromFile(name, path string) (*Var, error) {
	s := &Var{name: name, path: path}
	s.current.Store(&Value{})
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Name is the environment variable that the Var comes from.
func (s *Var) Name() string { return s.name }

// Get is the current value. It is the identical Value (==) until the content changes.
func (s *Var) Get() Value { return *s.current.Load() }

// Accept makes new content that is of no use an error of its reading, as an empty file is. The errors of
// usable must not quote the content. It is for whoever uses the Var, before anybody reads it again.
func (s *Var) Accept(usable func(content string) error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.usable = usable
}

// Reload reads the file again and reports whether the content is new. On an error, and for an empty or
// unusable file, the old value stays. A static Var never changes.
func (s *Var) Reload() (changed bool, err error) {
	if s.path == "" {
		return false, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	content, err := readFile(s.path)
	if err != nil {
		return false, fmt.Errorf("secret: %s: %w", s.name, err)
	}
	next := New(content)
	if s.Get().Equal(next) {
		return false, nil
	}
	if s.usable != nil {
		if err := s.usable(content); err != nil {
			return false, fmt.Errorf("secret: %s: %w", s.name, err)
		}
	}
	s.current.Store(&next)
	return true, nil
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxFile {
		return "", errTooLarge
	}
	text, ended := strings.CutSuffix(string(content), "\n")
	if ended {
		text = strings.TrimSuffix(text, "\r")
	}
	if text == "" {
		return "", errEmpty
	}
	return text, nil
}

// Follower reads files again until it is told to stop.
type Follower struct {
	files   []*followed
	log     *slog.Logger
	reloads *prometheus.CounterVec
}

// followed is a Var and what has been told of it. A Var may be read by others than the Follower, so
// news is what differs from the last told value and not what one reading brought.
type followed struct {
	*Var
	told   Value
	broken bool // the last reading failed, so that a failure is told once and not every 3 s
}

// NewFollower follows those of vars that come from files. Each change is one log line with a
// fingerprint, and counts in tokenvend_file_reloads_total.
func NewFollower(log *slog.Logger, reg prometheus.Registerer, vars ...*Var) *Follower {
	f := &Follower{log: log, reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tokenvend_file_reloads_total",
		Help: "Secret and certificate files read again with new content (changed) or in vain (failed; at every reading until it is well again).",
	}, []string{"variable", "outcome"})}
	reg.MustRegister(f.reloads)
	for _, v := range vars {
		if v != nil && v.path != "" {
			f.files = append(f.files, &followed{Var: v, told: v.Get()})
			f.reloads.WithLabelValues(v.name, "changed")
			f.reloads.WithLabelValues(v.name, "failed")
		}
	}
	return f
}

// Run reads the files every few seconds until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	if len(f.files) == 0 {
		return
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, v := range f.files {
				f.read(v)
			}
		}
	}
}

func (f *Follower) read(v *followed) {
	_, err := v.Reload()
	if err != nil {
		f.reloads.WithLabelValues(v.name, "failed").Inc() // each time: an alert must last as long as the trouble
	}
	if err != nil && !v.broken {
		f.log.Error("file cannot be used, the old content stays in use", "variable", v.name, "error", err.Error())
	}
	v.broken = err != nil
	if present := v.Get(); present != v.told {
		v.told = present
		f.reloads.WithLabelValues(v.name, "changed").Inc()
		f.log.Info("file has new content, now in use", "variable", v.name, "fingerprint", present.Fingerprint())
	}
}
