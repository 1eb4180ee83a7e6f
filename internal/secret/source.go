package secret

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sethealth/tokenvend/internal/setting"
)

const (
	// maxFile limits the size of a file, in bytes.
	maxFile = 1 << 20
	// startTimeout limits the first reading of a file, so that a wrong configuration is reported within a second
	// even if two files block, such as key and secret on the same unreachable mount.
	startTimeout = 400 * time.Millisecond
)

var errReading = errors.New("the file did not answer in time")

// Source is a credential, or the content of a file, that may change while the service runs. Copies share it. The zero
// Source is not set.
type Source struct{ *source }

type source struct {
	name, path string
	parse      func(content string) (string, error)
	validate   atomic.Pointer[func(content string) error]
	reading    chan struct{} // holds a value while the file is read
	current    atomic.Pointer[Value]
}

// Static returns a Source whose value never changes. The name is that of its environment variable.
func Static(name string, v Value) Source {
	s := Source{&source{name: name}}
	s.current.Store(&v)
	return s
}

// FromFile returns a Source of the credential in the file at path, without one trailing newline. It fails if the file
// cannot be read or is empty, or for a [setting.Fault].
func FromFile(name, path string) (Source, error) { return fromFile(name, path, credential) }

// TextFile returns a Source of the text of a file, which may be empty.
func TextFile(name, path string) (Source, error) {
	return fromFile(name, path, func(content string) (string, error) { return content, nil })
}

func fromFile(name, path string, parse func(string) (string, error)) (Source, error) {
	if err := setting.Fault(path); err != nil {
		return Source{}, fmt.Errorf("%s: %w", name, fmt.Errorf("its name %w", err))
	}
	s := Static(name, Value{})
	s.path, s.parse, s.reading = path, parse, make(chan struct{}, 1)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := s.Reload(ctx); err != nil {
		return Source{}, err
	}
	return s, nil
}

// Decode implements envconfig.Decoder. It never fails, because envconfig prints what it cannot decode.
func (s *Source) Decode(content string) error {
	*s = Static("", New(content))
	return nil
}

// IsSet reports whether the Source has a value.
func (s Source) IsSet() bool { return s.source != nil }

// Name returns the environment variable that the Source comes from.
func (s Source) Name() string { return s.name }

// Get returns the current value. It is the identical Value (==) until the content changes.
func (s Source) Get() Value {
	if s.source == nil {
		return Value{}
	}
	return *s.current.Load()
}

// SetValidator makes Reload refuse content for which validate returns an error, which must not quote it.
func (s Source) SetValidator(validate func(content string) error) { s.validate.Store(&validate) }

// Reload reads the file again. On an error the old value stays. It returns when ctx ends, even if the file blocks its
// reader. No other reading begins before that one has ended.
func (s Source) Reload(ctx context.Context) error {
	if s.source == nil || s.path == "" {
		return nil
	}
	done := make(chan error, 1)
	select {
	case s.reading <- struct{}{}:
		go func() {
			defer func() { <-s.reading }()
			done <- s.read()
		}()
	case <-ctx.Done():
	}
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = errReading
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

func (s *source) read() error {
	content, err := readFile(s.path)
	if path, ok := errors.AsType[*os.PathError](err); ok {
		err = path.Err // the operator knows the path from the variable
	}
	if err != nil {
		return err
	}
	text, err := s.parse(content)
	if err != nil {
		return err
	}
	next := New(text)
	if s.current.Load().Equal(next) {
		return nil
	}
	if validate := s.validate.Load(); validate != nil {
		if err := (*validate)(text); err != nil {
			return err
		}
	}
	s.current.Store(&next)
	return nil
}

func readFile(path string) (string, error) {
	// Opening a pipe could block forever, and a file that replaces it would never be read.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(readTimeout)) // of a pipe; other files have none
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	info, statErr := f.Stat()
	switch {
	case len(content) > maxFile:
		err = errors.New("the file is larger than 1 MiB")
	case errors.Is(err, os.ErrDeadlineExceeded), len(content) == 0 && statErr == nil && info.Mode()&os.ModeNamedPipe != 0:
		err = errReading
	}
	return string(content), err
}

// credential trims one newline at the end of a file, and refuses what is probably a mistake. PEM may end in any number
// of newlines.
func credential(content string) (string, error) {
	text, _ := strings.CutSuffix(content, "\n")
	text = strings.TrimSuffix(text, "\r")
	switch {
	case strings.TrimSpace(text) == "":
		return "", errors.New("the file is empty or blank")
	case strings.HasPrefix(text, "\n"), strings.HasPrefix(text, "\r\n"):
		return "", errors.New("the file begins with a blank line")
	case strings.HasSuffix(text, "\n") && !setting.IsPEM(text):
		return "", errors.New("the file ends with more than one newline")
	}
	if err := setting.Fault(text); err != nil {
		return "", fmt.Errorf("the file %w", err)
	}
	return text, nil
}
