package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// The second build has only the files that the image is built from (see .dockerignore).
func TestTheSameCommitGivesTheSameBytesWhereverItIsBuilt(t *testing.T) {
	printed, _ := command(t, nil, "version")
	assert.Contains(t, printed, "tokenvend "+version+", commit "+commit+", go1.")
	elsewhere := t.TempDir()
	for _, name := range []string{"cmd", "internal"} {
		require.NoError(t, os.CopyFS(elsewhere+"/"+name, os.DirFS("../"+name)))
	}
	require.NoError(t, os.Mkdir(elsewhere+"/client", 0o700))
	for _, name := range []string{"go.mod", "go.sum", "Makefile", "client/embed.go", "client/client.min.js", "client/client.d.ts"} {
		write(t, elsewhere+"/"+name, read(t, "../"+name))
	}
	here, err := tokenvend()
	require.NoError(t, err)
	there, err := buildRelease(elsewhere, "bin")
	require.NoError(t, err)
	content := read(t, here)
	assert.True(t, content == read(t, there), "the same bytes")
	assert.Less(t, len(content), 35_000_000, "the image must stay under 40 MB")
}

func TestTheImageIsBuiltLikeARelease(t *testing.T) {
	for _, file := range []string{"../Dockerfile", "../Makefile"} {
		content := read(t, file)
		assert.Contains(t, content, "go build -trimpath -buildvcs=false", file)
		assert.Contains(t, content, "-s -w -X main.version=", file)
		assert.Contains(t, content, "CGO_ENABLED=0", file)
	}
}

func TestAReleaseRequiresAVersion(t *testing.T) {
	testkit.Program(t, "bash")
	injected := t.TempDir() + "/injected"
	for _, version := range []string{"", "1.2", "v1.2.3", "1.2.3; touch " + injected, "1.2.3`touch " + injected + "`", "1.2.3-"} {
		out, err := exec.CommandContext(t.Context(), testkit.Program(t, "make"), "-C", "..", "release", "VERSION="+version).CombinedOutput()
		require.Error(t, err, version)
		assert.Contains(t, string(out), "VERSION must be like 1.2.3", version)
	}
	assert.NoFileExists(t, injected)
}

func TestEverythingOfAWorkflowIsPinned(t *testing.T) {
	workflows, err := filepath.Glob("../.github/workflows/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, workflows)
	pinned := regexp.MustCompile(`^([\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/workflows/\w+\.yml)$`)
	goVersion := regexp.MustCompile(`golang:([\d.]+)@sha256:[0-9a-f]{64} `).FindStringSubmatch(read(t, "../Dockerfile"))
	require.NotNil(t, goVersion, "the base image is pinned by digest")
	assert.Contains(t, read(t, "emulator.Dockerfile"), strings.TrimSpace(goVersion[0]), "one base image")
	for _, image := range regexp.MustCompile(`(?m)^    image: (.*)$`).FindAllStringSubmatch(read(t, "compose.yaml"), -1) {
		assert.Regexp(t, `@sha256:[0-9a-f]{64}$|:local$`, image[1])
	}
	for _, file := range workflows {
		content := read(t, file)
		assert.NotRegexp(t, `(?m)image=[^@\n]*$`, content, file)
		for _, uses := range regexp.MustCompile(`uses: (.*)`).FindAllStringSubmatch(content, -1) {
			assert.Regexp(t, pinned, uses[1], file)
		}
		for _, image := range regexp.MustCompile(`image: (golang.*)`).FindAllStringSubmatch(content, -1) {
			assert.Equal(t, strings.TrimSpace(goVersion[0]), image[1], "%s: the base image", file)
		}
		assert.NotContains(t, content, "@latest", file)
		assert.NotContains(t, content, "-latest", file)
		for _, version := range regexp.MustCompile(`go-version: (.*)`).FindAllStringSubmatch(content, -1) {
			assert.Equal(t, goVersion[1], version[1], "%s: the version of the base image", file)
		}
	}
}
