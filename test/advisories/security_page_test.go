package advisories_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
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

func securityPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(harness.Root, "docs", "security.md"))
	require.NoError(t, err)
	return string(page)
}

// section returns the text between two comments of the page.
func section(t *testing.T, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(securityPage(t), "<!-- "+name+" -->\n")
	require.True(t, ok)
	text, _, ok := strings.Cut(rest, "<!-- /"+name+" -->")
	require.True(t, ok)
	return text
}

// declarations calls do for each declaration of the project's Go files. Only functions have a name.
func declarations(t *testing.T, do func(path, name string, d ast.Decl)) {
	t.Helper()
	root := filepath.Clean(harness.Root)
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && path != root && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".")) {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			name := ""
			if f, ok := d.(*ast.FuncDecl); ok {
				name = f.Name.Name
			}
			do(strings.TrimPrefix(path, root+"/"), name, d)
		}
		return nil
	}))
}

// TestEveryTestOnTheSecurityPageExists also holds the table of vulnerabilities to TestAdvisories: each row is a
// subtest or names another test.
func TestEveryTestOnTheSecurityPageExists(t *testing.T) {
	tests := map[string]bool{}
	declarations(t, func(_, name string, _ ast.Decl) { tests[name] = true })
	page := securityPage(t)
	for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(page, -1) {
		assert.True(t, tests[name], "there is no test %s", name)
	}
	var listed, want []string
	for _, row := range regexp.MustCompile("(?m)^(`[^|]+`) \\| (.*)$").FindAllStringSubmatch(section(t, "advisories"), -1) {
		if !strings.Contains(row[2], "`Test") {
			listed = append(listed, strings.Fields(strings.ReplaceAll(row[1], "`", " "))...)
		}
	}
	for ids := range suite {
		want = append(want, strings.Fields(ids)...)
	}
	assert.ElementsMatch(t, want, listed)
}

// TestTheSecurityPageListsEveryPlaceWhereASecretIsRevealed counts calls and method values of Reveal in each function.
func TestTheSecurityPageListsEveryPlaceWhereASecretIsRevealed(t *testing.T) {
	found := map[string]int{}
	declarations(t, func(path, name string, d ast.Decl) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "test/") {
			return
		}
		ast.Inspect(d, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
				found[path+" "+name]++
			}
			return true
		})
	})
	var want, listed []string
	for where, n := range found {
		want = append(want, fmt.Sprintf("%s %d", where, n))
	}
	for _, row := range regexp.MustCompile("(?m)^`(\\S+)` `(\\w+)` \\| (\\d+) \\|").FindAllStringSubmatch(section(t, "reveal"), -1) {
		listed = append(listed, strings.Join(row[1:], " "))
	}
	assert.ElementsMatch(t, want, listed)
}
