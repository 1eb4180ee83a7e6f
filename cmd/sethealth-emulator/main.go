// Command sethealth-emulator emulates Sethealth's token endpoint for tests, demos and development. Its tokens
// give access to nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
	"github.com/sethealth/tokenvend/internal/sethealth/emulator"
)

const notice = `This is NOT Sethealth. It is an emulator of its token endpoint for development:
its tokens are random and give access to nothing, and it holds no data.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "sethealth-emulator:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fmt.Fprint(stdout, notice)
	flags := flag.NewFlagSet("sethealth-emulator", flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("addr", "127.0.0.1:8090", "address of POST /token")
	control := flags.String("control", "127.0.0.1:8091", "address of the control endpoint, such as GET /state")
	key := flags.String("key", "emulator-key", "the service account's key")
	password := flags.String("secret", "emulator-secret", "the service account's secret")
	strict := flags.Bool("strict", false, "accept exactly what tokenvend sends, not whatever Sethealth's own clients send")
	anywhere := flags.Bool("listen-anywhere", false, "allow addresses other than loopback, as a container needs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	e := emulator.New(emulator.Options{Key: secret.New(*key), Secret: secret.New(*password), Strict: *strict})
	api, err := listen(*addr, *anywhere)
	if err != nil {
		return err
	}
	defer api.Close()
	controlling, err := listen(*control, *anywhere)
	if err != nil {
		return err
	}
	defer controlling.Close()
	fmt.Fprintf(stdout, "token endpoint: http://%s/token (SETHEALTH_URL=http://%[1]s)\ncontrol:        http://%s/state\n",
		api.Addr(), controlling.Addr())
	return serve(ctx, map[net.Listener]http.Handler{api: e, controlling: e.Control()})
}

// listen refuses addresses other than loopback unless anywhere is set.
func listen(addr string, anywhere bool) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%s is not host:port", addr)
	}
	ip := net.ParseIP(host)
	if !anywhere && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%s is not a loopback address; -listen-anywhere allows it", addr)
	}
	return net.Listen("tcp", addr)
}

func serve(ctx context.Context, handlers map[net.Listener]http.Handler) error {
	failed := make(chan error, len(handlers))
	for l, h := range handlers {
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
		// Close, not Shutdown: that would wait for calls that hang on demand.
		defer srv.Close()
		go func() { failed <- srv.Serve(l) }()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}
