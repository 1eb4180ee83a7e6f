package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// Exit codes of the program.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const commandsHelp = `tokenvend hands short-lived Sethealth tokens to signed-in users.

Commands:
  serve         serve until SIGTERM or SIGINT (the default)
  check         try the configuration and every dependency, one line each
  token         mint one token and print it
  healthcheck   ask the running server's /healthz
  version       version, commit, Go version
  help          this text
`

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
	case "version":
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
	c, problems := LoadConfig()
	if problems = problems.only(needed); len(problems) > 0 {
		fmt.Fprintln(stderr, problems)
		return nil, false
	}
	return c, true
}

func all(string) bool { return true }

func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "tokenvend: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	return exitFailed
}

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

// check reaches every dependency once and prints a line for each.
func check(ctx context.Context, build telemetry.Build, stdout, stderr io.Writer) int {
	c, ok := configure(stderr, all)
	if !ok {
		return exitUsage
	}
	fmt.Fprintln(stdout, "configuration: ok")
	a, err := newApp(c, build, io.Discard)
	if err != nil {
		return fail(stderr, err)
	}
	code := exitOK
	for _, d := range a.dependencies {
		err := d.check(ctx)
		if err == nil {
			fmt.Fprintf(stdout, "%s: ok\n", d.name)
			continue
		}
		code = exitFailed
		fmt.Fprintf(stdout, "%s: %s\n", d.name, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return code
}

// token mints one token with the service account, for no user.
func token(ctx context.Context, build telemetry.Build, stdout, stderr io.Writer) int {
	c, ok := configure(stderr, func(variable string) bool {
		return strings.HasPrefix(variable, "SETHEALTH_") || variable == "TOKEN_TTL"
	})
	if !ok {
		return exitUsage
	}
	a := &app{config: c, registry: telemetry.NewRegistry(build), log: telemetry.NewLogger(io.Discard, 0, "json").Logger}
	client, err := a.newClient(sethealth.NewCredentials(c.SethealthKey.Var, c.SethealthSecret.Var), build, sethealth.None)
	if err != nil {
		return fail(stderr, err)
	}
	t, err := client.Issue(ctx, "", 0)
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
	host, port, err := net.SplitHostPort(c.ListenAddr)
	if err != nil {
		return fail(stderr, err)
	}
	if host == "" || net.ParseIP(host).IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if c.TLSCertFile != "" {
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+net.JoinHostPort(host, port)+c.BasePath+"/healthz", nil)
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

func help(w io.Writer) {
	fmt.Fprint(w, commandsHelp, "\nVariables (a * marks those that NAME_FILE may name a file for):\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, v := range Variables() {
		name := v.Name
		if v.HasFile {
			name += "*"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", name, v.Default, v.Meaning)
	}
	_ = t.Flush()
	fmt.Fprint(w, "\nTracing is configured by the OTEL_ variables of the OpenTelemetry specification, and off without\nOTEL_EXPORTER_OTLP_ENDPOINT.\n")
}
