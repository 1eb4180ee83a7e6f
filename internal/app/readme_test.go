package app_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
)

func TestTheReadmesConfigurationTableIsTheStruct(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(readme), "<!-- configuration -->\n")
	require.True(t, ok)
	got, _, ok := strings.Cut(rest, "<!-- /configuration -->")
	require.True(t, ok)

	want := &strings.Builder{}
	fmt.Fprint(want, "| variable | default | meaning |\n|---|---|---|\n")
	for _, v := range app.Variables() {
		name := "`" + v.Name + "`"
		if v.HasFile {
			name += ", `" + v.Name + "_FILE`"
		}
		fmt.Fprintf(want, "| %s | %s | %s |\n", name, v.Default, v.Meaning)
	}
	assert.Equal(t, want.String(), got, "the table between the marks must be:\n%s", want)
}
