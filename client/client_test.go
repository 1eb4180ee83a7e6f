package client_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/client"
	"github.com/sethealth/tokenvend/internal/testkit"
)

// The module's own tests are JavaScript, in tests/. They need no more than node.
func TestModule(t *testing.T) {
	t.Parallel()
	node := testkit.Program(t, "node")
	files, err := filepath.Glob("tests/*.test.js")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	helpers, err := filepath.Glob("tests/*")
	require.NoError(t, err)
	for _, name := range helpers {
		_, err := os.Stat(name) // so that go test's cache knows what the result depends on
		require.NoError(t, err)
	}
	run := exec.CommandContext(t.Context(), node, append([]string{"--test"}, files...)...)
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestFilesAreServedPlainAndCompressed(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]client.File{"client.min.js": client.Module(), "client.d.ts": client.Types()} {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		assert.Equal(t, string(content), file.Content)
		assert.Regexp(t, `^"[0-9a-f]{32}"$`, file.ETag, "a strong entity tag")
		assert.Regexp(t, `^"[0-9a-f]{32}-gzip"$`, file.GzipETag)
		unzip, err := gzip.NewReader(strings.NewReader(file.Gzip))
		require.NoError(t, err)
		unzipped, err := io.ReadAll(unzip)
		require.NoError(t, err)
		assert.Equal(t, string(content), string(unzipped))
	}
	assert.Contains(t, client.Module().ContentType, "text/javascript", "browsers run no module of another type")
	assert.NotEqual(t, client.Module().ETag, client.Types().ETag)
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
