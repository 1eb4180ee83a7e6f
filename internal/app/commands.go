package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/setting"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// Exit codes of the program.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs the command that args name and returns the exit code. ctx ends with the first signal.
func Main(ctx context.Context, args []string, build telemetry.Build, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 {
		command = args[0]
	}
	if len(args) > 1 {
		fmt.Fprintln(stderr, "tokenvend: commands take no arguments; try: tokenvend help")
		return exitUsage
	}
	switch command {
	case "serve":
		return serve(ctx, build, stderr)
	case "check":
		return check(ctx, build, stdout, stderr)
	case "token":
		return token(ctx, build, stdout, stderr)
	case "healthcheck":
		return healthcheck(ctx, stderr)
	case "version", "--version":
		fmt.Fprintf(stdout, "tokenvend %s, commit %s, %s\n", build.Version, build.Commit, build.Go)
		return exitOK
	case "help", "-h", "--help":
		help(stdout)
		return exitOK
	default:
		fmt.Fprintln(stderr, "tokenvend: unknown command; try: tokenvend help")
		return exitUsage
	}
}

// configure loads the environment; what is wrong with the variables that are needed goes to stderr.
func configure(stderr io.Writer, needed func(variable string) bool) (*Config, bool) {
	c, err := LoadConfig()
	ok := true
	for _, problem := range setting.Each(err) {
		if needed(problem.Variable) {
			fmt.Fprintln(stderr, problem)
			ok = false
		}
	}
	return c, ok
}

func all(string) bool { return true }

func fail(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "tokenvend: "+oneLine(err))
	return exitFailed
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func serve(ctx context.Context, build telemetry.Build, stderr io.Writer) int {
	c, ok := configure(stderr, all)
	if !ok {
		return exitUsage
	}
	l, err := Listen(c)
	if err != nil {
		return fail(stderr, err)
	}
	if err := Run(ctx, c, l, build, stderr); err != nil {
		return fail(stderr, err)
	}
	return exitOK
}

// token requests one token with the service account, for no user.
func token(ctx context.Context, build telemetry.Build, stdout, stderr io.Writer) int {
	c, ok := configure(stderr, func(variable string) bool {
		return strings.HasPrefix(variable, "SETHEALTH_") || variable == "TOKEN_TTL" || strings.EqualFold(variable, "HTTPS_PROXY")
	})
	if !ok {
		return exitUsage
	}
	c.Sethealth.UserID = "none"
	client, err := sethealth.New(c.Sethealth, sethealth.NewCredentials(c.Sethealth.Key, c.Sethealth.Secret), sethealth.Deps{
		Logger: slog.New(slog.DiscardHandler), Registerer: telemetry.NewRegistry(build), UserAgent: userAgent(build),
	})
	if err != nil {
		return fail(stderr, err)
	}
	t, err := client.Issue(ctx, sethealth.User{}, sethealth.Request{})
	if err != nil {
		return fail(stderr, err)
	}
	fmt.Fprintln(stdout, t.Value.Reveal())
	return exitOK
}

// healthcheck asks the server that runs with the same environment, over loopback unless LISTEN_ADDR says
// otherwise.
func healthcheck(ctx context.Context, stderr io.Writer) int {
	c, ok := configure(stderr, func(variable string) bool {
		return variable == "LISTEN_ADDR" || variable == "PORT" || variable == "BASE_PATH"
	})
	if !ok {
		return exitUsage
	}
	host, port, err := net.SplitHostPort(c.Server.ListenAddr)
	if err != nil {
		return fail(stderr, err)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "localhost" // of whichever family this machine has
	}
	scheme := "http"
	if c.Server.TLSCertFile != "" {
		scheme = "https"
	}
	client := &http.Client{
		Timeout: 3 * time.Second,
		Transport: &http.Transport{
			// The certificate is for the name that clients use, and the server is ourselves.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+c.Pages.BasePath+"/healthz", nil)
	if err != nil {
		return fail(stderr, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fail(stderr, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(stderr, errors.New("the server answered "+resp.Status))
	}
	return exitOK
}
