// Command tokenvend issues short-lived Sethealth tokens to signed-in users. See `tokenvend help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sethealth/tokenvend/internal/app"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// Set by the linker for a release.
var version, commit string

func main() {
	signal.Ignore(syscall.SIGPIPE) // the reader of the log may go away; the service does not
	os.Exit(app.Main(untilSignal(), os.Args[1:], telemetry.ReadBuild(version, commit), os.Stdout, os.Stderr))
}

// untilSignal ends with the first SIGTERM or SIGINT. The second one ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(1)
	}()
	return ctx
}
