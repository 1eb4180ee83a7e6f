package reliability_test

import (
	"fmt"
	"os"
	"path/filepath"
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

// kinds are the lines of the page: what failures of one code, retried or not, have in common.
var kinds = []struct {
	what, code string
	retried    bool
}{
	{"cannot be reached, breaks off, no HTTP, TLS not trusted, 429, 500, 502, 503, 504", "upstream_unavailable", true},
	{"does not answer in time", "upstream_timeout", true},
	{"200 without a usable token, any other 1xx, 2xx or 3xx", "upstream_invalid", false},
	{"429 with `Retry-After` beyond the time-out, other 5xx", "upstream_unavailable", false},
	{"other 4xx", "upstream_rejected", false},
}

func TestEveryFaultIsOfAKindThatThePageNames(t *testing.T) {
	for _, f := range allFaults() {
		named := false
		for _, k := range kinds {
			named = named || k.code == f.code && k.retried == f.retried
		}
		require.True(t, named, f.name)
	}
}

func faultTable() string {
	var b strings.Builder
	b.WriteString("| Sethealth | a page without a valid token gets | a page with one gets | calls |\n|---|---|---|---|\n")
	for _, k := range kinds {
		answer := fmt.Sprintf("%d `%s`", status[k.code], k.code)
		if after := retryAfter[k.code]; after != "" {
			answer += ", `Retry-After: " + after + "`"
		}
		calls := 1
		if k.retried {
			calls = tries
		}
		fmt.Fprintf(&b, "| %s | %s | its token | %d |\n", k.what, answer, calls)
	}
	return b.String()
}
