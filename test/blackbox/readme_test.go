package blackbox_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
	"github.com/sethealth/tokenvend/test/harness"
)

const readme = "../../README.md"

// backend stands in for https://app.example.com. The value of its session cookie is the user's name.
func backend(w http.ResponseWriter, r *http.Request) {
	session, err := r.Cookie("session")
	if err != nil || r.URL.Path != "/api/session" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("X-Auth-Request-User", session.Value)
}

// dockerStub runs the built binary with the environment of the container and what it needs to reach the test's servers.
// makeStub does nothing, as the binary is already built.
const (
	dockerStub = `#!/usr/bin/env bash
set -euo pipefail
[ "$1" = run ]
shift
while [ "${1#-}" != "$1" ]; do
  case $1 in
    --rm) shift && continue ;;
    -p) published=${2#*:} ;;
    -e) case $2 in *=*) env+=("$2") ;; *) env+=("$2=${!2}") ;; esac ;;
    *) echo "docker: $1 is not known to this test" >&2 && exit 125 ;;
  esac
  shift 2
done
[ "$*" = ghcr.io/sethealth/tokenvend:1 ] && [ "$published" = 8080 ]
exec env -i "${env[@]}" SETHEALTH_URL="$SETHEALTH_URL" HTTPS_PROXY="$HTTPS_PROXY" SSL_CERT_FILE="$SSL_CERT_FILE" \
  LISTEN_ADDR="$LISTEN_ADDR" ADMIN_ADDR=off bin/tokenvend
`
	makeStub = "#!/bin/sh\ntest \"$*\" = build\n"
)

func TestTheBlocksThatRunTheServiceWorkAsPasted(t *testing.T) {
	sethealth := harness.NewSethealth(t)
	for _, shell := range []string{"bash", "zsh"} {
		if _, err := exec.LookPath(shell); err != nil {
			require.Empty(t, os.Getenv("TOKENVEND_REQUIRE_"+strings.ToUpper(shell)))
			t.Logf("%s is not installed: the blocks are not tried in it", shell)
			continue
		}
		for _, mark := range []string{"docker", "source"} {
			t.Run(shell+", "+mark, func(t *testing.T) {
				dir, address := t.TempDir(), "127.0.0.1:"+testkit.FreePort(t)
				require.NoError(t, os.MkdirAll(dir+"/bin", 0o700))
				require.NoError(t, os.Symlink(harness.Command(t, nil).Path, dir+"/bin/tokenvend"))
				require.NoError(t, os.WriteFile(dir+"/docker", []byte(dockerStub), 0o700))
				require.NoError(t, os.WriteFile(dir+"/make", []byte(makeStub), 0o700))
				cmd := exec.Command(shell, "-c", testkit.Block(t, readme, mark))
				cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
				env := harness.Tunnel(t, http.HandlerFunc(backend), "app.example.com").With(harness.Env{
					"PATH": dir + ":" + os.Getenv("PATH"), "SETHEALTH_KEY": harness.Key, "SETHEALTH_SECRET": harness.Secret,
					"SETHEALTH_URL": sethealth.URL, "LISTEN_ADDR": address, "ADMIN_ADDR": "off",
				})
				for name, value := range env {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
				output := testkit.Start(t, cmd)
				harness.Eventually(t, "it serves", func() bool { return strings.Contains(output(), `"msg":"serving"`) })
				assert.NotContains(t, output(), "FAIL")
				if mark == "source" {
					assert.Regexp(t, `(?m)^ok      forward: https://app.example.com`, output())
				}
				answersAsPrinted(t, "http://"+address)
			})
		}
	}
}

// answersAsPrinted sends a page's request and compares the members of the answer with those in the README.
func answersAsPrinted(t *testing.T, url string) {
	t.Helper()
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	printed := regexp.MustCompile("```json\n(.*)\n```").FindSubmatch(text)
	require.NotNil(t, printed)
	var want map[string]any
	require.NoError(t, json.Unmarshal(printed[1], &want))
	for session, status := range map[string]int{"session=alice": 200, "": 401} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/token", nil)
		require.NoError(t, err)
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Cookie", session)
		answer, err := harness.Send(r)
		require.NoError(t, err)
		require.Equal(t, status, answer.Status)
		assert.Equal(t, "https://app.example.com", answer.Header.Get("Access-Control-Allow-Origin"))
		if status == http.StatusOK {
			var got map[string]any
			require.NoError(t, json.Unmarshal([]byte(answer.Body), &got))
			assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
		}
	}
}

func TestTheREADMEsFetchWorksAsPrinted(t *testing.T) {
	node := testkit.Program(t, "node")
	script := `
		globalThis.fetch = async (url, options) => {
			if (url !== "https://tokens.example.com/token" || options.method !== "POST" || options.credentials !== "include") throw new Error(url);
			return new Response('{"token":"the-token","expires_in":60}');
		};
		globalThis.sethealth = { auth: { setAccessToken: async (token) => console.log(token) } };
	` + testkit.Block(t, readme, "fetch")
	file := filepath.Join(t.TempDir(), "snippet.mjs")
	require.NoError(t, os.WriteFile(file, []byte(script), 0o600))
	out, err := exec.Command(node, file).CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "the-token\n", string(out))
}
