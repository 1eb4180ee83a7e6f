// Command demo runs an emulator of Sethealth, a small backend with sign-in and a page, and tokenvend, in one process
// and on loopback only.
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
	page := flag.String("page", "", "`port` of the page and its backend (usually 3000)")
	token := flag.String("token", "", "`port` of tokenvend (usually 8080)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := openAll(*page, *token)
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
