package reliability_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTheTableIsTrue holds the page's table to the faults that TestEveryFaultInEverySituation plays: each kind
// of answer, with its Retry-After and the number of calls, is a row.
func TestTheTableIsTrue(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", "reliability.md"))
	require.NoError(t, err)
	for _, f := range allFaults() {
		answer := fmt.Sprintf("%d `%s`", status[f.code], f.code)
		if after := retryAfter[f.code]; after != "" {
			answer += ", `Retry-After: " + after + "`"
		}
		calls := 1
		if f.retried {
			calls = tries
		}
		assert.Contains(t, string(content), fmt.Sprintf("| %s | its token | %d\n", answer, calls), f.name)
	}
}
