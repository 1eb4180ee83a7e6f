package blackbox_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	mark    = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// document is a page and the anchors of its headings on GitHub.
type document struct {
	text    string
	anchors map[string]bool
}

func documents(t *testing.T) map[string]document {
	t.Helper()
	all := map[string]document{}
	require.NoError(t, filepath.WalkDir(harness.Root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == "output" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(path, ".md") {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			page := document{string(text), map[string]bool{"": true}}
			for _, found := range heading.FindAllStringSubmatch(page.text, -1) {
				page.anchors[strings.ReplaceAll(mark.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")] = true
			}
			all[path] = page
		}
		return err
	}))
	require.NotEmpty(t, all)
	return all
}

func TestEveryPageIsInTheIndexAndEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	all := documents(t)
	index := filepath.Join(harness.Root, "docs", "README.md")
	for path, page := range all {
		if filepath.Dir(path) == filepath.Dir(index) && path != index {
			assert.Contains(t, all[index].text, "("+filepath.Base(path)+")", "the index lacks it")
		}
		for _, found := range link.FindAllStringSubmatch(page.text, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, ":") || strings.HasPrefix(target, "/") {
				continue
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			_, err := os.Stat(file)
			assert.NoError(t, err, "%s links to %s", path, found[1])
			if linked, ok := all[file]; ok {
				assert.True(t, linked.anchors[anchor], "%s links to %s", path, found[1])
			}
		}
	}
}

func TestTheDocumentsAreShort(t *testing.T) {
	t.Parallel()
	words := 0
	for path, page := range documents(t) {
		if filepath.Base(path) == "CHANGELOG.md" {
			continue
		}
		n := len(strings.Fields(page.text))
		if words += n; path == filepath.Join(harness.Root, "README.md") {
			assert.LessOrEqual(t, n, 1400)
		}
	}
	assert.LessOrEqual(t, words, 14_000)
}

func TestThePageOfMetricsListsWhatTheProgramExports(t *testing.T) {
	t.Parallel()
	cert, key := harness.WriteCertificate(t, t.TempDir(), "localhost")
	s := harness.Start(t, harness.NewSethealth(t).Env().With(harness.Env{
		"SESSION_CHECK": "jwt,forward", "JWT_SECRET": "-", "JWT_JWKS_URL": "http://127.0.0.1:1", "FORWARD_URL": "http://127.0.0.1:1",
		"FORWARD_CACHE_TTL": "1s", "TOKEN_CACHE": "redis", "REDIS_URL": "redis://127.0.0.1:1", "TLS_CERT_FILE": cert, "TLS_KEY_FILE": key,
	}))
	page, err := os.ReadFile(filepath.Join(harness.Root, "docs", "metrics.md"))
	require.NoError(t, err)
	kinds := func(row, text string) map[string]string {
		all := map[string]string{}
		for _, found := range regexp.MustCompile(row).FindAllStringSubmatch(text, -1) {
			all[found[1]] = found[2]
		}
		return all
	}
	exported := kinds(`(?m)^# TYPE (tokenvend_\S+) (\w+)$`, s.AdminGet("/metrics"))
	require.NotEmpty(t, exported)
	assert.Equal(t, exported, kinds("(?m)^`(tokenvend_\\w+)` \\| (\\w+) ", string(page)))
}
