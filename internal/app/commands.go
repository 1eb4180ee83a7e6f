package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

var errUsage = errors.New("try: tokenvend help")

// Main runs the command in args and returns the exit code: 2 if the command or a variable is wrong, 1 for every
// other failure. ctx ends with the first signal.
func Main(ctx context.Context, args []string, build telemetry.Build, stdout, stderr io.Writer) int {
	log.SetOutput(io.Discard) // net/http's client logs unexpected bytes from a server with it, which may be our own request
	out := &output{to: stdout}
	err := command(ctx, args, build, out, stderr)
	if err == nil {
		err = out.failed
	}
	switch {
	case err == nil:
		return 0
	case setting.Each(err) != nil:
		text := err.Error() // one line for each variable
		for _, warning := range misspelt(os.Environ()) {
			text += "\nwarning " + warning
		}
		say(stderr, text)
		return 2
	case errors.Is(err, errUsage):
		say(stderr, "tokenvend: "+err.Error())
		return 2
	case errors.Is(err, errReported):
		return 1
	default:
		say(stderr, "tokenvend: "+oneLine(err))
		return 1
	}
}

// output is a standard output that remembers a failed write.
type output struct {
	to     io.Writer
	failed error
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (n int, err error) {
	if n, err = o.to.Write(p); err != nil {
		o.failed = err
	}
	return n, err
}

// say prints a line to standard error. It waits half a second at most if the reader stalls.
func say(stderr io.Writer, text string) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintln(stderr, text)
	}()
	select {
	case <-said:
	case <-time.After(time.Second / 2):
	}
}

func command(ctx context.Context, args []string, build telemetry.Build, stdout, stderr io.Writer) error {
	name := "serve"
	if len(args) > 0 {
		name = args[0]
	}
	if len(args) > 1 {
		return fmt.Errorf("commands take no arguments; %w", errUsage)
	}
	switch name {
	case "serve":
		return serve(ctx, build, stderr)
	case "check":
		return check(ctx, build, stdout)
	case "token":
		return token(ctx, build, stdout)
	case "healthcheck":
		if err := healthcheck(ctx); err != nil {
			return errors.New(oneLine(err)) // exit code 1: Docker reserves 2
		}
		return nil
	case "version", "--version":
		fmt.Fprintf(stdout, "tokenvend %s, commit %s, %s\n", build.Version, build.Commit, build.Go)
	case "help", "-h", "--help":
		help(stdout)
	default:
		return fmt.Errorf("unknown command; %w", errUsage)
	}
	return nil
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func serve(ctx context.Context, build telemetry.Build, logTo io.Writer) error {
	c, err := LoadConfig()
	if err != nil {
		return err
	}
	l, err := Listen(c)
	if err != nil {
		return err
	}
	return Run(ctx, c, l, build, logTo)
}

// loadSome is LoadConfig without the faults of variables that are not needed.
func loadSome(needed func(variable string) bool) (*Config, error) {
	c, err := LoadConfig()
	problems := slices.DeleteFunc(setting.Each(err), func(p *setting.Problem) bool { return !needed(p.Variable) })
	return c, setting.Problems(problems).Err()
}

// token requests one token with the service account, for no user.
func token(ctx context.Context, build telemetry.Build, stdout io.Writer) error {
	c, err := loadSome(func(variable string) bool {
		return strings.HasPrefix(variable, "SETHEALTH_") || variable == "TOKEN_TTL" || strings.EqualFold(variable, "HTTPS_PROXY")
	})
	if err != nil {
		return err
	}
	c.Sethealth.UserID = "none"
	client := sethealth.New(c.Sethealth, sethealth.Deps{
		Logger: slog.New(slog.DiscardHandler), Registerer: telemetry.NewRegistry(build), UserAgent: userAgent(build),
	})
	t, err := client.Issue(ctx, sethealth.User{}, sethealth.Request{})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, t.Value.Reveal())
	return nil
}

// healthcheck asks the server that runs with the same environment, over loopback unless LISTEN_ADDR names an address.
func healthcheck(ctx context.Context) error {
	c, err := loadSome(func(variable string) bool {
		return variable == "LISTEN_ADDR" || variable == "PORT" || variable == "BASE_PATH"
	})
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(c.Server.ListenAddr)
	if err != nil {
		return err
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "localhost" // IPv4 or IPv6, whichever this machine has
	}
	scheme := "http"
	if c.Server.TLSCertFile != "" {
		scheme = "https"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+c.Pages.BasePath+"/healthz", nil)
	if err != nil {
		return err
	}
	// The certificate is for the name that clients use, and the server is our own.
	resp, err := (&http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s: %w", req.URL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("the server answered " + resp.Status)
	}
	return nil
}
