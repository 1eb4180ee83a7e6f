package blackbox_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// backend is https://app.example.com behind a tunnel: everybody is signed out.
func backend(t *testing.T) (env []string) {
	t.Helper()
	dir := t.TempDir()
	cert, key := harness.WriteCertificate(t, dir, "app.example.com")
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })}
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

// In place of docker: the binary itself, with the variables of -e alone. In place of make: the built binary.
const (
	dockerStub = "#!/bin/sh\nwhile [ $# -gt 0 ]; do\n  if [ \"$1\" = -e ]; then case \"$2\" in *=*) export \"$2\";; esac; shift; fi\n  shift\ndone\nexec bin/tokenvend\n"
	makeStub   = "#!/bin/sh\ntest \"$*\" = build\n"
)

func TestTheBlocksThatRunTheServiceWorkAsPasted(t *testing.T) {
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
				cmd.Env = append(backend(t), "PATH="+dir+":"+os.Getenv("PATH"), "SETHEALTH_KEY="+harness.Key, "SETHEALTH_SECRET="+harness.Secret,
					"SETHEALTH_URL="+sethealth.URL, "LISTEN_ADDR=127.0.0.1:0", "ADMIN_ADDR=off", "SHUTDOWN_DELAY=0s")
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
