package browser_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

const bundlers = "../bundlers"

// newWork makes a directory in which node finds the bundlers and the module as npm packs it.
func newWork(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(filepath.Join(bundlers, "node_modules")); err != nil {
		testkit.Missing(t, "BUNDLERS", "the bundlers are not installed (test/bundlers/install.sh does it)")
	}
	work, err := os.MkdirTemp(bundlers, "work-")
	require.NoError(t, err)
	work, err = filepath.Abs(work)
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(work) })
	source, err := filepath.Abs("../../client")
	require.NoError(t, err)
	to := filepath.Join(work, "node_modules", "@sethealth", "tokenvend-client")
	require.NoError(t, os.MkdirAll(to, 0o755))
	packed := strings.TrimSpace(runIn(t, work, "npm", "pack", "--silent", source))
	runIn(t, work, "tar", "-xzf", packed, "-C", to, "--strip-components=1")
	return work
}

// runIn runs a command and returns its standard output.
func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CI=1", "NODE_OPTIONS=--openssl-legacy-provider") // for webpack 4, which hashes with MD4
	var out, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errors
	require.NoError(t, cmd.Run(), "%s %s\n%s%s", name, strings.Join(args, " "), out.String(), errors.String())
	return out.String()
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

// usesTheModule prints "stopped a_code" if the module was found and works.
const usesTheModule = `import { keepSignedIn, TokenError } from '@sethealth/tokenvend-client';
const source = keepSignedIn({ url: 'https://tokens.example.test/token', onToken() {}, signal: AbortSignal.abort() });
console.log(source.state.status, new TokenError('a_code').code);
`

func TestThePackageInBundlersAndTools(t *testing.T) {
	t.Parallel()
	work := newWork(t)
	write(t, work, "entry.js", usesTheModule)
	for _, tool := range []string{"webpack4", "webpack5", "vite", "parcel"} {
		t.Run(tool, func(t *testing.T) {
			require.NoError(t, os.RemoveAll(filepath.Join(work, "out")))
			runIn(t, work, "node", "../pack.js", tool)
			// A bundle is a classic script or a module.
			for _, built := range []string{"entry.js", "entry.mjs"} {
				if _, err := os.Stat(filepath.Join(work, "out", built)); err == nil {
					require.NoError(t, os.Rename(filepath.Join(work, "out", built), filepath.Join(work, "out", "run.mjs")))
				}
			}
			assert.Equal(t, "stopped a_code\n", runIn(t, work, "node", "out/run.mjs"))
		})
	}
	t.Run("ESLint", func(t *testing.T) {
		write(t, work, "eslint.config.mjs", `import plugin from 'eslint-plugin-import';
export default [{ files: ['entry.js'], plugins: { import: plugin }, rules: { 'import/no-unresolved': 'error', 'import/named': 'error' } }];`)
		runIn(t, work, "../node_modules/.bin/eslint", "entry.js")
	})
	t.Run("Jest", func(t *testing.T) {
		write(t, work, "package.json", `{"jest": {"haste": {"forceNodeFilesystemAPI": true}}}`)
		write(t, work, "entry.test.js", `const { keepSignedIn } = require('@sethealth/tokenvend-client');
test('keepSignedIn is exported', () => expect(typeof keepSignedIn).toBe('function'));`)
		runIn(t, work, "../node_modules/.bin/jest", "--watchman=false", "--cacheDirectory="+filepath.Join(work, "cache"))
	})
	t.Run("node", func(t *testing.T) {
		write(t, work, "entry.mjs", usesTheModule)
		assert.Equal(t, "stopped a_code\n", runIn(t, work, "node", "entry.mjs"))
	})
}
