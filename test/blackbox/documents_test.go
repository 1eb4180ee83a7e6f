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
)

const root = "../.."

func documents(t *testing.T) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == "output" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	}))
	require.NotEmpty(t, paths)
	return paths
}

func TestEveryPageHasANounForATitleAndIsInTheIndex(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	require.NoError(t, err)
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	for _, page := range pages {
		content, err := os.ReadFile(page)
		require.NoError(t, err)
		heading, _, _ := strings.Cut(string(content), "\n")
		assert.Regexp(t, `^# [A-Z][^?]*$`, heading, page)
		if name := filepath.Base(page); name != "README.md" {
			assert.Contains(t, string(index), "("+name+")", "the index lacks %s", name)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestEveryLinkBetweenDocumentsLeadsSomewhere(t *testing.T) {
	for _, path := range documents(t) {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(string(content), -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, ":") || strings.HasPrefix(target, "/") {
				continue
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
				_, err := os.Stat(file)
				assert.NoError(t, err, "%s links to %s", path, found[1])
			}
			if anchor != "" && strings.HasSuffix(file, ".md") {
				assert.Contains(t, anchors(t, file), anchor, "%s links to %s", path, found[1])
			}
		}
	}
}

// anchors are those that the headings of a document get where it is read.
func anchors(t *testing.T, path string) (all []string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(content), -1) {
		text := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(text, " ", "-"))
	}
	return all
}

// What the pages may weigh in all, so that a stranger finds a fact in them.
func TestTheDocumentsAreShort(t *testing.T) {
	words := func(paths ...string) (n int) {
		for _, path := range paths {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			n += len(strings.Fields(string(content)))
		}
		return n
	}
	assert.LessOrEqual(t, words(filepath.Join(root, "README.md")), 1400)
	assert.LessOrEqual(t, words(documents(t)...), 14_000)
}
