package harness_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// A test of internal/api compares the README's table to the code.
func TestTheDocumentHasTheReadmesErrors(t *testing.T) {
	doc, err := harness.OpenAPI()
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, table, _ := strings.Cut(string(readme), "<!-- errors -->")
	table, _, _ = strings.Cut(table, "<!-- /errors -->")
	rows := regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` ").FindAllStringSubmatch(table, -1)
	require.NotEmpty(t, rows)
	all := doc.Components.Schemas["Problem"].Value.Properties["code"].Value.Enum
	assert.Len(t, all, len(rows), "no other code")
	responses := doc.Paths.Value("/token").Post.Responses
	for _, row := range rows {
		status, _ := strconv.Atoi(row[1])
		assert.Contains(t, all, row[2])
		if slices.Contains([]int{404, 405}, status) || row[2] == "not_ready" { // of any path, and of /readyz
			continue
		}
		response := responses.Value(row[1])
		require.NotNil(t, response, row[1])
		schema := response.Value.Content["application/problem+json"].Schema.Value
		assert.Contains(t, fmt.Sprint(schema.AllOf[1].Value.Properties["code"].Value.Enum), row[2])
	}
}
