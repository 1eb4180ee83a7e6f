// Package deploy_test tests the files of this folder, and the pages about them, against the program.
package deploy_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// run runs a program and returns what it printed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testkit.Program(t, program), args...).CombinedOutput()
	require.NoError(t, err, "%s %s:\n%s", program, strings.Join(args, " "), out)
	return string(out)
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

// documents decodes a stream of YAML documents.
func documents[T any](t *testing.T, stream string) (all []T) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewBufferString(stream))
	for {
		var one T
		err := decoder.Decode(&one)
		if err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, one)
	}
}
