// Package browser_test drives real browsers against the built binaries.
package browser_test

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// TestMain runs a few tests at once, as they mostly wait.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "4")
	code := m.Run()
	if started {
		theBrowser().end()
	}
	os.Exit(code)
}

// browser is one Chromium for all tests. Each test has its own context, with its own cookies, storage, locks and
// channels.
type browser struct {
	ctx   context.Context
	end   func()
	sites string // port of the server of all pages
}

var started bool

// theBrowser starts the browser at its first use.
var theBrowser = sync.OnceValue(func() *browser {
	started = true
	dir, err := os.MkdirTemp("", "tokenvend-browser-")
	if err != nil {
		panic(err)
	}
	// Third-party cookies are allowed: attacks by pages of other sites are strongest then.
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "Default"), 0o700),
		os.WriteFile(filepath.Join(dir, "Default", "Preferences"), []byte(`{"profile":{"cookie_controls_mode":0}}`), 0o600)); err != nil {
		panic(err)
	}
	sites := httptest.NewUnstartedServer(http.HandlerFunc(serveSites))
	sites.Config.ErrorLog = log.New(io.Discard, "", 0)
	sites.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	sites.StartTLS()
	at := sites.Listener.Addr().(*net.TCPAddr)
	port := strconv.Itoa(at.Port)

	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(executable()), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true), chromedp.IgnoreCertErrors,
		// Nothing leaves this machine: every other host is the pages' server or does not resolve.
		chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1, MAP js.set.health:443 127.0.0.1:"+port+
			", MAP cdn.jsdelivr.net:443 127.0.0.1:"+port+", MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"),
		chromedp.WSURLReadTimeout(time.Minute),
	)
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		panic(err)
	}
	return &browser{ctx: ctx, sites: port, end: func() {
		stop()
		stopAllocator()
		sites.Close()
		for range 50 { // its processes may write for a moment longer
			if os.RemoveAll(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}}
})

// executable returns the path of Chromium, or "".
func executable() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func needsBrowser(t *testing.T) *browser {
	t.Helper()
	if executable() == "" {
		testkit.Missing(t, "BROWSER", "chromium is not installed")
	}
	return theBrowser()
}

//go:embed testdata/page.js
var pageJS string

// contents are the pages that tests have added, by host and path.
var contents sync.Map

type content struct{ policy, mediaType, body string }

const blank = `<!doctype html><title>page</title><link rel="icon" href="data:,"><script src="/page.js"></script>`

// serveSites serves the pages of every host: a blank one with page.js, and those that tests have added.
func serveSites(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*") // browsers request modules with CORS
	c := map[string]content{
		"/": {"", "text/html", blank}, "/page.js": {"", "text/javascript", pageJS},
		"/icon": {"", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg"/>`}, // every policy allows it
	}[r.URL.Path]
	if added, ok := contents.Load(r.Host + r.URL.Path); ok {
		c = added.(content)
	}
	if c.mediaType == "" {
		http.NotFound(w, r)
		return
	}
	if c.policy != "" {
		w.Header().Set("Content-Security-Policy", c.policy)
	}
	w.Header().Set("Content-Type", c.mediaType)
	_, _ = io.WriteString(w, c.body)
}
