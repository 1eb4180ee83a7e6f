package advisories_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/test/harness"
)

var (
	envBlock = regexp.MustCompile("(?s)```env\n(.*?)```")
	heading  = regexp.MustCompile(`(?m)^## (.+)$`)
)

// TestEveryConfigurationOnTheSessionsPageIsValid reads each block as the service would read its environment.
func TestEveryConfigurationOnTheSessionsPageIsValid(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "sessions.md"))
	require.NoError(t, err)
	known := map[string]bool{}
	for _, v := range app.Variables() {
		known[v.Name], known[v.Name+"_FILE"] = true, v.HasFile
	}
	blocks := envBlock.FindAllSubmatchIndex(page, -1)
	require.GreaterOrEqual(t, len(blocks), 12)
	standIn := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(standIn, []byte(harness.SessionSecret), 0o600))
	for _, at := range blocks {
		before := heading.FindAllStringSubmatch(string(page[:at[0]]), -1)
		t.Run(before[len(before)-1][1], func(t *testing.T) {
			for name := range known { // what the tests' own environment says does not count
				t.Setenv(name, "")
			}
			t.Setenv("SETHEALTH_KEY", harness.Key)
			t.Setenv("SETHEALTH_SECRET", harness.Secret)
			t.Setenv("CORS_ALLOWED_ORIGINS", harness.Origin)
			for line := range strings.Lines(string(page[at[2]:at[3]])) {
				name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
				require.True(t, ok, line)
				require.True(t, known[name], "there is no variable %s", name)
				if strings.HasSuffix(name, "_FILE") {
					value = standIn
				}
				t.Setenv(name, value)
			}
			_, problems := app.LoadConfig()
			assert.Empty(t, problems)
		})
	}
}
