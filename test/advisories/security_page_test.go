package advisories_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

func securityPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	require.NoError(t, err)
	return string(page)
}

// section is what stands between two comments of the page.
func section(t *testing.T, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(securityPage(t), "<!-- "+name+" -->\n")
	require.True(t, ok)
	text, _, ok := strings.Cut(rest, "<!-- /"+name+" -->")
	require.True(t, ok)
	return text
}

// goFiles are the project's, by their path from the root.
func goFiles(t *testing.T, want func(path string) bool) (files map[string]*ast.File) {
	t.Helper()
	files = map[string]*ast.File{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != root {
				return filepath.SkipDir
			}
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+"/"))
		if strings.HasSuffix(name, ".go") && want(name) {
			files[name], err = parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		}
		return err
	}))
	return files
}

// TestTheSecurityPageListsEveryAdvisoryAndItsTests: an id is a subtest of TestAdvisories, or its row names
// the test.
func TestTheSecurityPageListsEveryAdvisoryAndItsTests(t *testing.T) {
	tests := map[string]bool{}
	for path, file := range goFiles(t, func(path string) bool { return strings.HasSuffix(path, "_test.go") }) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				tests[filepath.Dir(path)+"/"+f.Name.Name] = true
			}
		}
	}
	code := regexp.MustCompile("`([^`]+)`")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^(`[^|]+`) \\| (.*)$").FindAllStringSubmatch(section(t, "advisories"), -1) {
		elsewhere := false
		for _, name := range code.FindAllStringSubmatch(row[2], -1) {
			if strings.Contains(name[1], "/Test") {
				elsewhere = true
				assert.True(t, tests[name[1]], "there is no test %s", name[1])
			}
		}
		for _, id := range code.FindAllStringSubmatch(row[1], -1) {
			if !elsewhere {
				listed = append(listed, id[1])
			}
		}
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(suite)), listed)
}

func TestEveryTestAndFileOnTheSecurityPageExists(t *testing.T) {
	page := securityPage(t)
	names := map[string]bool{}
	for _, file := range goFiles(t, func(path string) bool { return strings.HasSuffix(path, "_test.go") }) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				names[f.Name.Name] = true
			}
		}
	}
	for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(page, -1) {
		assert.True(t, names[name], "there is no test %s", name)
	}
	for _, path := range regexp.MustCompile("`((?:internal|cmd|test|deploy|docs)/[^` *:]+)`").FindAllStringSubmatch(page, -1) {
		file, _, _ := strings.Cut(path[1], "/Test") // a test by its folder
		file, _, _ = strings.Cut(file, "/Fuzz")
		_, err := os.Stat(filepath.Join(root, file))
		assert.NoError(t, err)
	}
}

// TestTheSecurityPageListsEveryPlaceWhereASecretIsRevealed counts the calls of Reveal in each function.
func TestTheSecurityPageListsEveryPlaceWhereASecretIsRevealed(t *testing.T) {
	found := map[string]int{}
	for path, file := range goFiles(t, func(path string) bool {
		return !strings.HasSuffix(path, "_test.go") && !strings.HasPrefix(path, "test/")
	}) {
		for _, d := range file.Decls {
			where := path + " (at package level)"
			if f, ok := d.(*ast.FuncDecl); ok {
				where = path + " " + f.Name.Name
			}
			ast.Inspect(d, func(n ast.Node) bool { // a method value that is passed on counts as well as a call
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
					found[where]++
				}
				return true
			})
		}
	}
	var want []string
	for where, n := range found {
		want = append(want, fmt.Sprintf("%s %d", where, n))
	}
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^`(\\S+)` `(\\w+)` \\| (\\d+) \\|").FindAllStringSubmatch(section(t, "reveal"), -1) {
		listed = append(listed, strings.Join(row[1:], " "))
	}
	assert.ElementsMatch(t, want, listed)
}
