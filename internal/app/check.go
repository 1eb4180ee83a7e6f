package app

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// check reaches every dependency once and prints a line for each: ok, warning or FAIL.
func check(ctx context.Context, build telemetry.Build, stdout, stderr io.Writer) int {
	c, ok := configure(stderr, all)
	if !ok {
		return exitUsage
	}
	a, err := newApp(c, build, io.Discard)
	if err != nil {
		return fail(stderr, err)
	}
	defer a.close()
	line := func(result, format string, args ...any) {
		fmt.Fprintf(stdout, "%-8s"+format+"\n", append([]any{result}, args...)...)
	}
	summary := make([]string, 0, 4)
	for pair := c.summary(); len(pair) > 0; pair = pair[2:] {
		summary = append(summary, fmt.Sprintf("%v %v", pair[0], pair[1]))
	}
	line("ok", "configuration: %s", strings.Join(summary, "; "))
	code := exitOK
	results := reach(ctx, a.dependencies)
	for i, d := range a.dependencies {
		if err := results[i]; err != nil {
			code = exitFailed
			line("FAIL", "%s: %s: %s", d.Name, d.Detail, oneLine(err))
		} else {
			line("ok", "%s: %s", d.Name, d.Detail)
		}
	}
	for _, warning := range a.warnings() {
		line("warning", "%s", warning)
	}
	return code
}

// reach checks all dependencies at once, so that several that hang cost the time of one.
func reach(ctx context.Context, dependencies []auth.Dependency) []error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	results := make([]error, len(dependencies))
	var reaching sync.WaitGroup
	for i, d := range dependencies {
		reaching.Go(func() { results[i] = d.Check(ctx) })
	}
	reaching.Wait()
	return results
}

// warnings are what is configured and probably not meant.
func (a *app) warnings() []string {
	all := append(misspelt(os.Environ()), a.sessions.Warnings()...)
	if a.redis != nil {
		all = append(all, a.redis.Warnings()...)
	}
	return all
}

// misspelt finds set variables whose name is one or two letters from one of ours.
func misspelt(environ []string) (warnings []string) {
	known := map[string]bool{}
	for _, v := range Variables() {
		known[v.Name] = true
		if v.HasFile {
			known[v.Name+fileSuffix] = true
		}
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		// Kubernetes injects the addresses of services, such as REDIS_PORT=tcp://10.0.0.1:6379.
		if len(name) < 8 || known[name] || value == "" || strings.HasPrefix(value, "tcp://") || strings.HasPrefix(value, "udp://") {
			continue
		}
		for _, v := range Variables() {
			for _, ours := range []string{v.Name, v.Name + fileSuffix} {
				if known[ours] && distance(name, ours) <= 2 {
					warnings = append(warnings, name+" is not a variable of tokenvend; "+ours+" was probably meant")
				}
			}
		}
	}
	return warnings
}

// distance is that of Levenshtein: how many letters must be added, left out or changed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
