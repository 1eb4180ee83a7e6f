package blackbox_test

import (
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/freeport"
	"github.com/sethealth/tokenvend/test/harness"
)

// readmeBlock is the block of the README under that mark, as a reader pastes it.
func readmeBlock(t *testing.T, mark string) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)<!-- " + mark + " -->\\s*```\\w+\n(.*?)```").FindSubmatch(readme)
	require.NotNil(t, found, mark)
	return string(found[1])
}

// backend is https://app.example.com behind a tunnel. Its session cookie is the user's name.
func backend(t *testing.T) (env []string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := harness.WriteCertificate(t, dir, "app.example.com")
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := r.Cookie("session")
		if err != nil || r.URL.Path != "/api/session" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("X-Auth-Request-User", session.Value)
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = app.ServeTLS(listener, cert, key) }()
	t.Cleanup(func() { _ = app.Close() })
	tunnel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		far, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			return
		}
		near, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
		_, _ = io.Copy(near, far)
		_ = near.Close()
	}))
	t.Cleanup(tunnel.Close)
	return []string{"HTTPS_PROXY=" + tunnel.URL, "SSL_CERT_FILE=" + cert}
}

// In place of docker: the built binary with what the arguments give to a container, and the way to the test's
// servers. In place of make: nothing, as the binary is built.
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
				dir, address := t.TempDir(), "127.0.0.1:"+freeport.New(t)
				require.NoError(t, os.MkdirAll(dir+"/bin", 0o700))
				require.NoError(t, os.Symlink(harness.Tokenvend(t), dir+"/bin/tokenvend"))
				require.NoError(t, os.WriteFile(dir+"/docker", []byte(dockerStub), 0o700))
				require.NoError(t, os.WriteFile(dir+"/make", []byte(makeStub), 0o700))
				cmd := exec.Command(shell, "-c", readmeBlock(t, mark))
				cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
				cmd.Env = append(backend(t), "PATH="+dir+":"+os.Getenv("PATH"), "SETHEALTH_KEY="+harness.Key, "SETHEALTH_SECRET="+harness.Secret,
					"SETHEALTH_URL="+sethealth.URL, "LISTEN_ADDR="+address, "ADMIN_ADDR=off")
				var out harness.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				require.NoError(t, cmd.Start())
				t.Cleanup(func() {
					_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
					_ = cmd.Wait()
				})
				harness.Eventually(t, time.Minute, "it serves", func() bool { return strings.Contains(out.String(), `"msg":"serving"`) })
				assert.NotContains(t, out.String(), "FAIL")
				if mark == "source" {
					assert.Regexp(t, `(?m)^ok      forward: https://app.example.com`, out.String())
				}
				answersAsPrinted(t, "http://"+address)
			})
		}
	}
}

// answersAsPrinted sends the request of the README's page, and compares the answer with the one that is printed there.
func answersAsPrinted(t *testing.T, url string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	printed := regexp.MustCompile("```json\n(.*)\n```").FindSubmatch(readme)
	require.NotNil(t, printed)
	var want map[string]any
	require.NoError(t, json.Unmarshal(printed[1], &want))
	for session, status := range map[string]int{"session=alice": 200, "": 401} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/token", nil)
		require.NoError(t, err)
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Cookie", session)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, status, resp.StatusCode)
		assert.Equal(t, "https://app.example.com", resp.Header.Get("Access-Control-Allow-Origin"))
		if status == http.StatusOK {
			var got map[string]any
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&got))
			assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)))
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
