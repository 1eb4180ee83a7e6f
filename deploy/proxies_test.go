package deploy_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// front is a proxy of proxies/ in front of stand-ins for tokenvend and the session endpoint.
type front struct {
	url string
	// answer is the session endpoint.
	answer atomic.Pointer[http.HandlerFunc]
	// reached is the last request to tokenvend, or nil.
	reached atomic.Pointer[http.Request]
}

func newFront(t *testing.T, config string, start func(t *testing.T, config string) *exec.Cmd) *front {
	t.Helper()
	f := &front{}
	vend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { f.reached.Store(r) }))
	t.Cleanup(vend.Close)
	session := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*f.answer.Load())(w, r) }))
	t.Cleanup(session.Close)
	port := testkit.FreePort(t)
	address := "127.0.0.1:" + port
	f.url = "http://" + address

	config = strings.NewReplacer(
		"127.0.0.1:8080", vend.Listener.Addr().String(),
		"127.0.0.1:4180", session.Listener.Addr().String(),
		"listen 8443", "listen "+address, ":8443 {", "http://:"+port+" {",
	).Replace(config)
	cmd := start(t, config)
	testkit.Start(t, cmd)
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	return f
}

func nginx(t *testing.T, config string) *exec.Cmd {
	dir := t.TempDir()
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary.WriteString(kind + "_temp_path " + dir + "/" + kind + ";\n")
	}
	write(t, dir+"/nginx.conf", strings.Replace(config, "http {", "http {\n"+temporary.String(), 1))
	return exec.Command(testkit.Program(t, "nginx"), "-p", dir, "-c", dir+"/nginx.conf", "-e", "stderr",
		"-g", "daemon off; master_process off; error_log stderr; pid "+dir+"/pid;")
}

func caddy(t *testing.T, config string) *exec.Cmd {
	dir := t.TempDir()
	write(t, dir+"/Caddyfile", config)
	cmd := exec.Command(testkit.Program(t, "caddy"), "run", "--config", dir+"/Caddyfile", "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return cmd
}

// ask sends a POST /token that claims to be mallory in every spelling.
func (f *front) ask(t *testing.T, answer http.HandlerFunc) (status int, reached *http.Request) {
	t.Helper()
	f.answer.Store(&answer)
	f.reached.Store(nil)
	r, err := http.NewRequest(http.MethodPost, f.url+"/token", nil)
	require.NoError(t, err)
	r.Host = "app.example.com:8443"
	r.Header.Set("Origin", "https://app.example.com:8443")
	for _, name := range []string{
		"X-Forwarded-User", "x-forwarded-user", "X_Forwarded_User", "X-Forwarded_User", "X_Forwarded-User", "X-Auth-Request-User",
		"X-Original-Url", "X-Rewrite-Url",
	} {
		r.Header[name] = []string{"mallory"}
	}
	r.Header.Set("X-Forwarded-For", "192.0.2.66")
	r.Header.Set("X-Forwarded-Host", "evil.test")
	r.Header.Set("X-Forwarded-Proto", "gopher")
	r.Header.Set("Cookie", "session=1")
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, f.reached.Load()
}

func TestOnlyTheProxyInFrontNamesTheUser(t *testing.T) {
	for name, row := range map[string]struct {
		file  string
		start func(*testing.T, string) *exec.Cmd
	}{
		"nginx": {"proxies/nginx.conf", nginx},
		"caddy": {"proxies/Caddyfile", caddy},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, read(t, row.file), row.start)

			status, reached := f.ask(t, func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "session=1", r.Header.Get("Cookie"))
				assert.NotContains(t, r.Header.Values("X-Auth-Request-User"), "mallory")
				w.Header().Set("X-Auth-Request-User", "alice")
			})
			require.Equal(t, http.StatusOK, status)
			require.NotNil(t, reached)
			assert.Equal(t, []string{"alice"}, reached.Header["X-Forwarded-User"])
			assert.Equal(t, "127.0.0.1", reached.Header.Get("X-Forwarded-For"))
			assert.Equal(t, "app.example.com:8443", reached.Host)
			assert.Equal(t, "app.example.com:8443", reached.Header.Get("X-Forwarded-Host"))
			assert.Equal(t, "http", reached.Header.Get("X-Forwarded-Proto"))
			assert.Equal(t, "https://app.example.com:8443", reached.Header.Get("Origin"))
			assert.Equal(t, "session=1", reached.Header.Get("Cookie"))
			for name, values := range reached.Header {
				assert.NotContains(t, values, "mallory", name)
			}

			for _, answer := range []int{401, 500} { // an outage must not sign users out
				status, reached = f.ask(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(answer) })
				assert.Equal(t, answer, status)
				assert.Nil(t, reached)
			}

			_, reached = f.ask(t, func(http.ResponseWriter, *http.Request) {})
			if reached != nil {
				assert.Empty(t, reached.Header.Get("X-Forwarded-User"), "an answer without a user names nobody")
				assert.NotContains(t, reached.Header, "X-Auth-Request-User")
			}
		})
	}
}

// Traefik and Envoy have no package to install, so their files are only read.
func TestTheOtherProxiesStripTheSameHeaders(t *testing.T) {
	traefik, envoy := read(t, "proxies/traefik.yaml"), read(t, "proxies/envoy.yaml")
	require.Len(t, documents[any](t, traefik+"\n---\n"+envoy), 2)
	assert.Contains(t, traefik, "middlewares: [strip-identity, session]", "stripped before the session check names the user")
	for _, name := range []string{"X-Forwarded-User", "X_Forwarded_User", "X-Forwarded_User", "X_Forwarded-User"} {
		assert.Contains(t, traefik, "\n          "+name+": \"\"\n")
	}
	assert.Contains(t, envoy, "headers_with_underscores_action: REJECT_REQUEST")
	assert.Contains(t, envoy, "- {remove: x-forwarded-user}")
	assert.Contains(t, envoy, "strip_any_host_port: true", "its domains match on any port")
	assert.NotContains(t, envoy, "failure_mode_allow: true")
}
