package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// errReported is returned by a check that has already printed what failed.
var errReported = errors.New("a dependency is unavailable")

// check asks every dependency once and prints a line for each: ok, warning or FAIL.
func check(ctx context.Context, build telemetry.Build, stdout io.Writer) error {
	c, err := LoadConfig()
	if err != nil {
		return err
	}
	a, err := newApp(c, build, io.Discard)
	if err != nil {
		return err
	}
	defer a.close()
	summary := make([]string, 0, 4)
	for pair := c.summary(); len(pair) > 0; pair = pair[2:] {
		summary = append(summary, fmt.Sprintf("%v %v", pair[0], pair[1]))
	}
	fmt.Fprintf(stdout, "ok      configuration: %s\n", strings.Join(summary, "; "))
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	failures := make([]error, len(a.dependencies))
	var asking sync.WaitGroup // all at once, so that several that hang take no longer than one
	for i, d := range a.dependencies {
		asking.Go(func() { failures[i] = d.Check(ctx) })
	}
	asking.Wait()
	for i, d := range a.dependencies {
		if failures[i] != nil {
			err = errReported
			fmt.Fprintf(stdout, "FAIL    %s: %s: %s\n", d.Name, d.Detail, strings.TrimPrefix(oneLine(failures[i]), d.Name+": "))
		} else {
			fmt.Fprintf(stdout, "ok      %s: %s\n", d.Name, d.Detail)
		}
	}
	for _, warning := range a.warnings() {
		fmt.Fprintf(stdout, "warning %s\n", warning)
	}
	return err
}

// warnings lists settings that were probably not meant.
func (a *app) warnings() []string {
	all := append(misspelt(os.Environ()), a.sessions.Warnings()...)
	if a.redis != nil {
		all = append(all, a.redis.Warnings()...)
	}
	return all
}

// misspelt finds variables whose names differ from one of ours by one or two letters.
func misspelt(environ []string) (warnings []string) {
	var ours []string
	for _, v := range Variables() {
		ours = append(ours, v.Names()...)
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		// Kubernetes injects addresses of services, such as REDIS_PORT=tcp://10.0.0.1:6379.
		if len(name) < 8 || value == "" || strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") || slices.Contains(ours, name) {
			continue
		}
		for _, other := range ours {
			if near(name, other, 2) {
				warnings = append(warnings, name+" is not a variable of tokenvend; "+other+" was probably meant")
			}
		}
	}
	return warnings
}

// near reports whether adding, removing or changing at most n letters turns a into b.
func near(a, b string, n int) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if a == "" || b == "" || n == 0 {
		return len(a)+len(b) <= n
	}
	return near(a[1:], b, n-1) || near(a, b[1:], n-1) || near(a[1:], b[1:], n-1)
}
