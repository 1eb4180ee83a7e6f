package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// The service account of the demo, which the emulator alone knows.
const (
	demoKey    = "demo-key"
	demoSecret = "demo-secret"
)

// tokenLife is short, so that the page shows refreshes within a minute.
const tokenLife = time.Minute

// demo is the three servers and where they listen.
type demo struct {
	sethealth, page, token net.Listener
	emulator               *emulator.Emulator
}

// listen opens the listeners, so that a taken port is told before anything runs.
func listen(page, token string) (*demo, error) {
	d := &demo{emulator: emulator.New(emulator.Options{Key: secret.New(demoKey), Secret: secret.New(demoSecret)})}
	for _, l := range []struct {
		at   string
		into *net.Listener
	}{{"127.0.0.1:0", &d.sethealth}, {page, &d.page}, {token, &d.token}} {
		host, _, err := net.SplitHostPort(l.at)
		if err == nil && !setting.IsLoopback(host) {
			return nil, errors.New("the demo listens on loopback alone: it signs in whoever asks")
		}
		if *l.into, err = net.Listen("tcp", l.at); err != nil {
			return nil, fmt.Errorf("%w (another address: -page and -token)", err)
		}
	}
	return d, nil
}

func origin(l net.Listener) string {
	return fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
}

func (d *demo) explain(w io.Writer) {
	fmt.Fprintf(w, `tokenvend demo. Nothing leaves this machine, and no token of it opens anything.

  page and its backend   %[1]s   open it in a browser
  tokenvend              %[2]s   sessions are checked by the backend (SESSION_CHECK=forward)
  emulator of Sethealth  %[3]s

Sign in, get a token, and see the 401 without a session:

  curl -s -c cookies.txt -H 'Content-Type: application/json' -d '{"user":"alice"}' %[1]s/sign-in
  curl -s -b cookies.txt -X POST %[2]s/token
  curl -s -X POST %[2]s/token

Ctrl-C ends it.

`, origin(d.page), origin(d.token), origin(d.sethealth))
}

// run serves until ctx ends.
func (d *demo) run(ctx context.Context, logTo io.Writer) error {
	stopSethealth := serve(d.sethealth, d.emulator)
	defer stopSethealth()
	stopPage := serve(d.page, newBackend(d.emulator, origin(d.token)))
	defer stopPage()

	config, err := d.config()
	if err != nil {
		return err
	}
	return app.Run(ctx, config, app.Listeners{Public: d.token}, telemetry.ReadBuild("", ""), logTo)
}

// config sets the environment as an operator would, and nothing else of it counts.
func (d *demo) config() (*app.Config, error) {
	for _, v := range app.Variables() {
		_ = os.Unsetenv(v.Name)
		_ = os.Unsetenv(v.Name + "_FILE")
	}
	for name, value := range map[string]string{
		"SETHEALTH_URL":        origin(d.sethealth),
		"SETHEALTH_KEY":        demoKey,
		"SETHEALTH_SECRET":     demoSecret,
		"SETHEALTH_TIMEOUT":    "5s",
		"TOKEN_TTL":            tokenLife.String(),
		"SESSION_CHECK":        "forward",
		"FORWARD_URL":          origin(d.page) + "/session",
		"FORWARD_COOKIES":      sessionCookie,
		"FORWARD_USER_FIELD":   "user",
		"CORS_ALLOWED_ORIGINS": origin(d.page),
		"ADMIN_ADDR":           "off",
		"SHUTDOWN_DELAY":       "0s",
		"SHUTDOWN_TIMEOUT":     "6s",
		"LOG_FORMAT":           "text",
	} {
		_ = os.Setenv(name, value)
	}
	return app.LoadConfig()
}

// serve serves in the background until stop is called.
func serve(l net.Listener, h http.Handler) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	return func() { _ = server.Close() }
}
