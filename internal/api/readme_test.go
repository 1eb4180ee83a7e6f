package api_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/api"
)

func TestTheReadmesErrorTableIsTheCode(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(readme), "<!-- errors -->\n")
	require.True(t, ok)
	table, _, ok := strings.Cut(rest, "<!-- /errors -->")
	require.True(t, ok)
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\| (yes|) *\\|").FindAllStringSubmatch(table, -1) {
		got = append(got, strings.Join(row[1:], " "))
	}
	var want []string
	for _, p := range api.ProblemRows() {
		if p.Code == "canceled" { // nobody reads it
			continue
		}
		retry := ""
		if p.RetryAfter {
			retry = "yes"
		}
		want = append(want, fmt.Sprintf("%d %s %s", p.Status, p.Code, retry))
	}
	assert.ElementsMatch(t, want, got)
}

// The browser module takes an answer with an unknown code for that of another server.
func TestTheBrowserModuleKnowsEveryCode(t *testing.T) {
	module, err := os.ReadFile("../../client/client.js")
	require.NoError(t, err)
	var known, codes []string
	for _, list := range regexp.MustCompile("(?s)const (?:FINAL_CODES|RETRIED_CODES) = `(.*?)`").FindAllStringSubmatch(string(module), -1) {
		known = append(known, strings.Fields(list[1])...)
	}
	for _, p := range api.ProblemRows() {
		if p.Code != "canceled" {
			codes = append(codes, p.Code)
		}
	}
	assert.ElementsMatch(t, codes, known)
}
