package blackbox_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/test/harness"
)

// readmeBlock is the block of the README under that mark, as a reader pastes it.
func readmeBlock(t *testing.T, mark string) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(harness.Root, "README.md"))
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)<!-- " + mark + " -->\\s*```\\w+\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, found, mark)
	return string(found[1])
}

// In place of docker: the binary itself, with the variables of -e alone. In place of make: the built binary.
const (
	dockerStub = "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n  if [ \"$1\" = -e ]; then case \"$2\" in *=*) export \"$2\";; esac; shift; fi\n  shift\ndone\nexec bin/tokenvend\n"
	makeStub   = "#!/bin/sh\ntest \"$*\" = build\n"
)

func TestTheBlocksThatRunTheServiceWorkAsPasted(t *testing.T) {
	signedOut := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	sethealth := harness.NewSethealth(t)
	binary := harness.Command(t, nil).Path
	for _, shell := range []string{"bash", "zsh"} {
		if _, err := exec.LookPath(shell); err != nil {
			require.Empty(t, os.Getenv("TOKENVEND_REQUIRE_"+strings.ToUpper(shell)))
			t.Logf("%s is not installed: the blocks are not tried in it", shell)
			continue
		}
		for _, mark := range []string{"docker", "source"} {
			t.Run(shell+", "+mark, func(t *testing.T) {
				dir := t.TempDir()
				require.NoError(t, os.MkdirAll(dir+"/bin", 0o700))
				require.NoError(t, os.Symlink(binary, dir+"/bin/tokenvend"))
				require.NoError(t, os.WriteFile(dir+"/docker", []byte(dockerStub), 0o700))
				require.NoError(t, os.WriteFile(dir+"/make", []byte(makeStub), 0o700))
				cmd := exec.Command(shell, "-c", readmeBlock(t, mark))
				cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
				env := harness.Tunnel(t, signedOut, "app.example.com").With(harness.Env{
					"PATH": dir + ":" + os.Getenv("PATH"), "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret,
					"SETHEALTH_URL": sethealth.URL, "LISTEN_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "off", "SHUTDOWN_DELAY": "0s",
				})
				for name, value := range env {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
				var out harness.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				require.NoError(t, cmd.Start())
				t.Cleanup(func() {
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
					_ = cmd.Wait()
				})
				harness.Eventually(t, "it serves", func() bool { return strings.Contains(out.Output(), `"msg":"serving"`) })
				assert.NotContains(t, out.Output(), "FAIL")
				if mark == "source" {
					assert.Regexp(t, `(?m)^ok      forward: https://app.example.com`, out.Output())
				}
			})
		}
	}
}

func TestTheFetchOfTheREADMEIsEnough(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		require.Empty(t, os.Getenv("TOKENVEND_REQUIRE_NODE"))
		t.Skip("node is not installed: the snippet is not run")
	}
	script := `
		globalThis.fetch = async (url, options) => {
			if (url !== "https://tokens.example.com/token" || options.method !== "POST" || options.credentials !== "include") throw new Error(url);
			return new Response('{"token":"the-token","expires_in":60}');
		};
		globalThis.sethealth = { auth: { setAccessToken: async (token) => console.log(token) } };
	` + readmeBlock(t, "fetch")
	file := filepath.Join(t.TempDir(), "snippet.mjs")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o600))
	out, err := exec.Command(node, file).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "the-token\n", string(out))
}
