// Package deploy_test holds the files of this folder, and the pages about them, to what the program reads
// and exports.
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
)

// tool finds a program. A test that lacks it is skipped, unless TOKENVEND_REQUIRE_<TOOL> is set.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	variable := "TOKENVEND_REQUIRE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	if os.Getenv(variable) != "" {
		t.Fatalf("%s is not installed, and %s is set", name, variable)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// run runs a program and returns what it printed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), tool(t, program), args...).CombinedOutput()
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
