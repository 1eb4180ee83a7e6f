// Command demo runs all of it on this machine's loopback, in one process: an emulator of Sethealth, a
// small team backend with sign-in and a page, and tokenvend itself in front of the emulator.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	page := flag.String("page", "localhost:3000", "where the page and its backend listen")
	token := flag.String("token", "localhost:8080", "where tokenvend listens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := listen(*page, *token)
	if err == nil {
		d.explain(os.Stdout)
		err = d.run(ctx, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Println("\nThe demo has ended.")
}
