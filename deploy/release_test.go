package deploy_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the binary is made of: the same as the image is built from, see .dockerignore.
var sources = []string{"go.mod", "go.sum", "Makefile", "cmd", "internal", "client"}

func TestTheSameCommitGivesTheSameBytesWhereverItIsBuilt(t *testing.T) {
	tool(t, "make")
	elsewhere := t.TempDir()
	for _, name := range sources {
		copyTree(t, filepath.Join("..", name), filepath.Join(elsewhere, name))
	}
	here, there := buildRelease(t, ".."), buildRelease(t, elsewhere)
	require.Equal(t, here, there)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	require.NoError(t, err)
	if info.IsDir() {
		require.NoError(t, os.MkdirAll(to, 0o755))
		entries, err := os.ReadDir(from)
		require.NoError(t, err)
		for _, e := range entries {
			if e.Name() != "node_modules" {
				copyTree(t, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
			}
		}
		return
	}
	content, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, content, 0o600))
}

// buildRelease is the hash of the binary that folder gives, built as a release is.
func buildRelease(t *testing.T, folder string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "tokenvend")
	run(t, "make", "-s", "-C", folder, "build", "VERSION=1.2.3", "COMMIT=0123456789abcdef0123456789abcdef01234567", "OUT="+binary)
	assert.Contains(t, runFile(t, binary, "version"), "tokenvend 1.2.3, commit 0123456789abcdef0123456789abcdef01234567, go1.")
	info, err := os.Stat(binary)
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(35_000_000), "the image must stay under 40 MB")
	content, err := os.ReadFile(binary)
	require.NoError(t, err)
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func runFile(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestTheImageIsBuiltLikeARelease(t *testing.T) {
	for _, file := range []string{"../Dockerfile", "../Makefile"} {
		content := read(t, file)
		assert.Contains(t, content, "go build -trimpath -buildvcs=false", file)
		assert.Contains(t, content, "-s -w -X main.version=", file)
		assert.Contains(t, content, "CGO_ENABLED=0", file)
	}
}

func TestAReleaseWantsAVersion(t *testing.T) {
	tool(t, "bash")
	for _, version := range []string{"", "1.2", "v1.2.3", "1.2.3; id", "1.2.3-"} {
		cmd := exec.CommandContext(t.Context(), "bash", "release.sh")
		cmd.Env = append(os.Environ(), "VERSION="+version)
		out, err := cmd.CombinedOutput()
		require.Error(t, err, version)
		assert.Contains(t, string(out), "VERSION must be like 1.2.3", version)
	}
}

func TestEverythingOfAWorkflowIsPinned(t *testing.T) {
	workflows, err := filepath.Glob("../.github/workflows/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, workflows)
	pinned := regexp.MustCompile(`^([\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/workflows/\w+\.yml)$`)
	goVersion := regexp.MustCompile(`golang:([\d.]+)@sha256:[0-9a-f]{64} `).FindStringSubmatch(read(t, "../Dockerfile"))
	require.NotNil(t, goVersion, "the base image is pinned by digest")
	assert.Contains(t, read(t, "emulator.Dockerfile"), strings.TrimSpace(goVersion[0]), "one base image")
	for _, file := range workflows {
		content := read(t, file)
		for _, uses := range regexp.MustCompile(`uses: (.*)`).FindAllStringSubmatch(content, -1) {
			assert.Regexp(t, pinned, uses[1], file)
		}
		assert.NotContains(t, content, "@latest", file)
		assert.NotContains(t, content, "-latest", file)
		for _, version := range regexp.MustCompile(`go-version: (.*)`).FindAllStringSubmatch(content, -1) {
			assert.Equal(t, goVersion[1], version[1], "%s: the version of the base image", file)
		}
	}
}

// The last job of a release runs the block of the README that users paste.
func TestTheReadmeVerifiesWhatAReleaseHolds(t *testing.T) {
	_, rest, found := strings.Cut(read(t, "../README.md"), "<!-- verify -->")
	require.True(t, found, "the README has a block to verify a download with")
	_, block, _ := strings.Cut(rest, "```sh\n")
	block, _, _ = strings.Cut(block, "```")
	assert.Regexp(t, `(?m)^VERSION=\d+\.\d+\.\d+$`, block)
	for _, part := range []string{
		"SHA256SUMS.sigstore.json", "cosign verify-blob", "cosign verify ", "gh attestation verify",
		"/.github/workflows/release.yml@refs/tags/v$VERSION", "ghcr.io/sethealth/tokenvend:$VERSION", "tokenvend_${VERSION}_linux_amd64",
	} {
		assert.Contains(t, block, part)
	}
	run(t, "bash", "-n", "-c", block)
}
