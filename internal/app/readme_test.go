package app_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
)

const configurationPage = "../../docs/configuration.md"

// The page is made from the structs: with UPDATE=1 the test writes it.
func TestTheConfigurationPageIsTheStructs(t *testing.T) {
	page, err := os.ReadFile(configurationPage)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(page), "<!-- variables -->\n")
	require.True(t, ok)
	got, tail, ok := strings.Cut(rest, "<!-- /variables -->")
	require.True(t, ok)
	want := &strings.Builder{}
	group := ""
	for _, v := range app.Variables() {
		if v.Group != group {
			group = v.Group
			fmt.Fprintf(want, "\n## %s\n\nvariable | default | meaning\n---|---|---\n", group)
		}
		names := "`" + strings.Join(v.Names(), "`, `") + "`"
		fmt.Fprintf(want, "%s | %s | %s\n", names, v.Default, strings.ReplaceAll(v.Meaning, "|", "\\|"))
	}
	fmt.Fprintln(want)
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(configurationPage, []byte(head+"<!-- variables -->\n"+want.String()+"<!-- /variables -->"+tail), 0o644))
		return
	}
	assert.Equal(t, want.String(), got, "UPDATE=1 go test ./internal/app writes it")
}

func TestHelpNamesEveryVariableWithin100Columns(t *testing.T) {
	var out bytes.Buffer
	require.Zero(t, app.Main(t.Context(), []string{"help"}, build, &out, &out))
	for line := range strings.Lines(out.String()) {
		assert.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 100, line)
	}
	for _, v := range app.Variables() {
		assert.NotEmpty(t, v.Group, v.Name)
		assert.NotEmpty(t, v.Meaning, v.Name)
		assert.Contains(t, out.String(), "  "+v.Name)
	}
}
