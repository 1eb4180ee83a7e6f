package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// demo holds the listeners of the three servers.
type demo struct{ sethealth, page, token net.Listener }

// openAll opens the listeners, on loopback only, as the demo signs in any caller.
func openAll(page, token string) (d demo, err error) {
	var problems [3]error
	d.sethealth, problems[0] = listen("0")
	d.page, problems[1] = open("page", page, "3000")
	d.token, problems[2] = open("token", token, "8080")
	return d, errors.Join(problems[:]...)
}

// open listens on the port of a flag. Without one it takes the usual port, or any if that is in use.
func open(flag, asked, usual string) (net.Listener, error) {
	l, err := listen(cmp.Or(asked, usual))
	if asked == "" && errors.Is(err, syscall.EADDRINUSE) {
		l, err = listen("0")
	}
	if err != nil {
		err = fmt.Errorf("-%[1]s must be a free port of localhost (0 takes any): %[3]w. With make: make demo %[2]s=0", flag, strings.ToUpper(flag), err)
	}
	return l, err
}

// listen also fails if another program uses the port on ::1, which browsers try first for localhost.
func listen(port string) (net.Listener, error) {
	if port != "0" {
		v6, err := net.Listen("tcp6", net.JoinHostPort("::1", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, err
		} else if err == nil {
			_ = v6.Close()
		}
	}
	return net.Listen("tcp4", net.JoinHostPort("127.0.0.1", port))
}

func origin(host string, l net.Listener) string {
	return fmt.Sprintf("http://%s:%d", host, l.Addr().(*net.TCPAddr).Port)
}

func (d demo) explain(w io.Writer) {
	fmt.Fprintf(w, `tokenvend demo. Nothing leaves this computer, and its tokens open nothing.

  page and its backend   %[1]s   open it in a browser
  tokenvend              %[2]s   sessions are checked by the backend (SESSION_CHECK=forward)
  emulator of Sethealth  %[3]s

Where a usual port (3000, 8080) is taken, another is used; make demo PAGE=3001 TOKEN=8081 chooses.
Sign in, get a token, and see the 401 without a session:

  curl -s -c cookies.txt -H 'Content-Type: application/json' -d '{"user":"alice"}' %[1]s/sign-in
  curl -s -b cookies.txt -X POST %[2]s/token
  curl -s -X POST %[2]s/token

Ctrl-C ends it. What follows is tokenvend's log.

`, origin("localhost", d.page), origin("localhost", d.token), origin("127.0.0.1", d.sethealth))
}

// run serves until ctx is done.
func (d demo) run(ctx context.Context, logTo io.Writer) error {
	key, password := "demo-key", "demo-secret" // known only to the emulator
	sethealth := emulator.New(emulator.Options{Key: secret.New(key), Secret: secret.New(password)})
	cookie := fmt.Sprintf("demo_session_%d", d.page.Addr().(*net.TCPAddr).Port) // cookies ignore ports
	audit := &auditLog{to: logTo}
	b := &backend{emulator: sethealth, tokenvend: d.token, audit: audit, cookie: cookie}
	go func() { _ = http.Serve(d.sethealth, sethealth) }()
	go func() { _ = http.Serve(d.page, b.handler()) }()

	os.Clearenv() // the demo ignores the user's environment
	for name, value := range map[string]string{
		"SETHEALTH_URL":        origin("127.0.0.1", d.sethealth),
		"SETHEALTH_KEY":        key,
		"SETHEALTH_SECRET":     password,
		"TOKEN_TTL":            "1m", // short, to show refreshes
		"SESSION_CHECK":        "forward",
		"FORWARD_URL":          origin("127.0.0.1", d.page) + "/session",
		"FORWARD_COOKIES":      cookie,
		"FORWARD_USER_FIELD":   "user",
		"FORWARD_TIMEOUT":      "5s", // longer than the slow network
		"CORS_ALLOWED_ORIGINS": origin("localhost", d.page) + "," + origin("127.0.0.1", d.page),
		"ADMIN_ADDR":           "off",
		"SHUTDOWN_DELAY":       "0s",
	} {
		_ = os.Setenv(name, value)
	}
	config, err := app.LoadConfig()
	if err != nil {
		return err
	}
	return app.Run(ctx, config, app.Listeners{Public: d.token}, telemetry.ReadBuild("", ""), audit)
}
