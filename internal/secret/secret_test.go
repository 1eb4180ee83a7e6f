package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"text/template"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/secret"
)

const canary = "CanarySecret0123456789"

type exported struct{ V secret.Value }

type unexported struct{ v secret.Value }

type embedded struct{ secret.Value }

type deep struct {
	p    *secret.Value
	list []secret.Value
	m    map[string]secret.Value
	any  any
	in   unexported
	err  error
}

// holders are the ways in which programs hold a Value.
func holders() map[string]any {
	v := secret.New(canary)
	inside := deep{&v, []secret.Value{v}, map[string]secret.Value{"k": v}, v, unexported{v}, holding{v}}
	return map[string]any{
		"the value":                v,
		"a pointer":                &v,
		"an exported field":        exported{v},
		"an unexported field":      &unexported{v},
		"an embedded value":        embedded{v},
		"a map's key":              map[secret.Value]string{v: "x"},
		"deep inside":              inside,
		"a pointer to deep inside": &inside,
		"an error":                 holding{v},
		"a variable":               struct{ v secret.Source }{secret.Static("NAME", v)},
		"a slice of any":           []any{v, &v},
	}
}

type holding struct{ v secret.Value }

func (h holding) Error() string { return fmt.Sprintf("failed with %v and %+v", h.v, unexported(h)) }

// assertSealed fails if the canary was printed as text, as hex or as a list of bytes.
func assertSealed(t *testing.T, printed, how string) {
	t.Helper()
	hexed := hex.EncodeToString([]byte(canary))
	listed := strings.Trim(fmt.Sprint([]byte(canary)), "[]")
	for _, trace := range []string{canary, canary[:8], canary[8:], hexed, strings.ToUpper(hexed), listed} {
		assert.NotContains(t, printed, trace, how)
	}
}

func TestNoVerbOfFmtPrintsIt(t *testing.T) {
	for name, holder := range holders() {
		for verb := 'A'; verb <= 'z'; verb++ {
			for _, flags := range []string{"", "+", "#", "+#", " ", "-30", "030", ".5", "[1]"} {
				format := "%" + flags + string(verb)
				assertSealed(t, fmt.Sprintf(format, holder), name+" "+format)
			}
		}
		for _, broken := range []string{"%d %!", "%!", "%"} {
			assertSealed(t, fmt.Sprintf(broken, holder, holder), name)
		}
	}
}

func TestAPrintedValueSaysThatItIsRedacted(t *testing.T) {
	for _, v := range []secret.Value{secret.New(canary), {}} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			assert.Equal(t, "[redacted]", fmt.Sprintf(format, v))
		}
	}
}

func TestNoEncoderWritesIt(t *testing.T) {
	for name, holder := range holders() {
		var b bytes.Buffer
		_ = json.NewEncoder(&b).Encode(holder)
		_ = xml.NewEncoder(&b).Encode(holder)
		_ = gob.NewEncoder(&b).Encode(holder)
		_ = template.Must(template.New("").Parse(`{{.}} {{printf "%#v" .}} {{js .}}`)).Execute(&b, holder)
		assertSealed(t, b.String(), name)
	}
	b, err := json.Marshal(exported{secret.New(canary)})
	require.NoError(t, err)
	assert.Equal(t, `{"V":"[redacted]"}`, string(b))
}

func TestNoLogShowsIt(t *testing.T) {
	for name, holder := range holders() {
		var b bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
			l := slog.New(h)
			l.Info("m", "k", holder)
			l.With("k", holder).WithGroup("g").Error("m", slog.Any("k", holder), slog.Group("h", "k", holder))
		}
		log.New(&b, "", 0).Println(holder)
		assertSealed(t, b.String(), name)
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "k", secret.New(canary))
	assert.Contains(t, b.String(), "k=[redacted]")
}

// The runtime prints an unrecovered panic in its own way.
func TestNoPanicShowsIt(t *testing.T) {
	values := holders()
	const which = "SECRET_TEST_PANIC_WITH"
	if name := os.Getenv(which); name != "" {
		panic(values[name])
	}
	for name := range values {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestNoPanicShowsIt$")
			cmd.Env = append(os.Environ(), which+"="+name, "GOTRACEBACK=all")
			out, err := cmd.CombinedOutput()
			require.Error(t, err)
			assert.Contains(t, string(out), "panic")
			assertSealed(t, string(out), name)
		})
	}
}

func TestEqualComparesContentsAndTheOperatorIdentity(t *testing.T) {
	v, same := secret.New("a"), secret.New("a")
	assert.Equal(t, "a", v.Reveal())
	assert.Empty(t, secret.Value{}.Reveal())
	assert.True(t, v.Equal(same))
	for _, other := range []string{"b", "aa", ""} {
		assert.False(t, v.Equal(secret.New(other)))
	}
	assert.True(t, secret.New("") == secret.Value{})
	copied := v
	assert.True(t, v == copied)
	assert.False(t, v == same)
}

// Stored data and other replicas depend on these keys: they must not change between releases. The
// values were computed by another implementation of RFC 5869.
func TestDerivedKeysAreGolden(t *testing.T) {
	for content, key := range map[string]string{
		"a secret of the tests": "9d77aefa633270685d3f6704f59d7c3ee16383cb94f33afbe0fc027879860bbf",
		"14-byte-secret":        "dd5878734f68bf04a6446c47939871aa76129133c1c9c5515a70cf004323ae86",
		"13-byte-secre":         "8ea7b5988dd57e93ea02cef6ac7b95269ebf4df9f8f811649df6f67cd353073f", // is hashed first
	} {
		assert.Equal(t, key, hex.EncodeToString(secret.New(content).Derive("purpose")), content)
	}
	v := secret.New("a secret of the tests")
	assert.Equal(t, "31254ec9", v.Fingerprint())
	assert.NotEqual(t, v.Derive("a"), v.Derive("b"))
}
