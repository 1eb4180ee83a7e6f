package reliability_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var page = filepath.Join("..", "..", "docs", "reliability.md")

const (
	tableBegins = "<!-- made from the fault table of test/reliability: go test ./reliability -run TestTheTableIsTrue -update -->\n"
	tableEnds   = "<!-- end of the table -->\n"
)

// TestTheTableIsTrue holds the page's table to the faults that TestEveryFaultInEverySituation plays.
func TestTheTableIsTrue(t *testing.T) {
	content, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(content), tableBegins)
	require.True(t, ok, "the page has no place for the table")
	table, after, ok := strings.Cut(rest, tableEnds)
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(before+tableBegins+faultTable()+tableEnds+after), 0o644))
		return
	}
	require.Equal(t, faultTable(), table, "run with -update")
}

// faultTable has a line for each kind of answer.
func faultTable() string {
	type kind struct {
		code    string
		retried bool
	}
	var kinds []kind
	names := map[kind][]string{}
	for _, f := range allFaults() {
		k := kind{f.code, f.retried}
		if names[k] == nil {
			kinds = append(kinds, k)
		}
		names[k] = append(names[k], f.name)
	}
	var b strings.Builder
	b.WriteString("| Sethealth | a page without a living token gets | a page with one gets | calls |\n|---|---|---|---|\n")
	for _, k := range kinds {
		answer := fmt.Sprintf("%d `%s`", status[k.code], k.code)
		if after := retryAfter[k.code]; after != "" {
			answer += ", `Retry-After: " + after + "`"
		}
		calls := 1
		if k.retried {
			calls = tries
		}
		fmt.Fprintf(&b, "| %s | %s | its token, `stale` or `cache` in the log | %s |\n", list(names[k]), answer, strconv.Itoa(calls))
	}
	return b.String()
}

var isStatus = regexp.MustCompile(`^\d{3}$`)

// list puts bare statuses behind the other names, so that the line can be read.
func list(names []string) string {
	var words, statuses []string
	for _, name := range names {
		if isStatus.MatchString(name) {
			statuses = append(statuses, name)
		} else {
			words = append(words, name)
		}
	}
	if len(statuses) > 0 {
		words = append(words, "status "+strings.Join(statuses, " "))
	}
	return strings.Join(words, ", ")
}
