package client_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/client"
	"github.com/sethealth/tokenvend/internal/testkit"
)

// TestModule runs the tests of the module, which are JavaScript.
func TestModule(t *testing.T) {
	t.Parallel()
	node := testkit.Program(t, "node")
	files, err := filepath.Glob("tests/*.test.js")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	helpers, err := filepath.Glob("tests/*")
	require.NoError(t, err)
	for _, name := range helpers {
		_, err := os.Stat(name) // makes cached test results depend on it
		require.NoError(t, err)
	}
	run := exec.CommandContext(t.Context(), node, append([]string{"--test"}, files...)...)
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestTheBuiltModulesAreOfTheSourceAndSmall(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("client.js")
	require.NoError(t, err)
	sum := sha256.Sum256(source)
	for _, name := range []string{"client.min.js", "client.cjs"} {
		built, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Contains(t, string(built[:100]), hex.EncodeToString(sum[:8]), "client.js has changed: run go generate ./client")
	}
	size := len(client.Module().Gzip)
	assert.Less(t, size, 4000, "bytes compressed")
	for _, name := range []string{"README.md", "../docs/frontend.md"} {
		page, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Contains(t, string(page), fmt.Sprintf("%.1f kB", float64(size)/1000), name)
	}
}
