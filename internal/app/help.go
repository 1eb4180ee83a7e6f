package app

import (
	"fmt"
	"io"
	"strings"
)

const commandsHelp = `tokenvend issues short-lived Sethealth tokens to signed-in users.

Commands:
  serve         serve until SIGTERM or SIGINT (the default)
  check         try the configuration and every dependency, one line each
  token         request one token and print it
  healthcheck   ask the running server's /healthz
  version       version, commit, Go version
  help          this text

Variables (NAME_FILE may name a file that holds the value of those with a *):
`

const helpWidth = 100

// help prints the commands and every variable, by subject.
func help(w io.Writer) {
	fmt.Fprint(w, commandsHelp)
	for _, group := range Groups() {
		fmt.Fprintf(w, "\n%s\n", group)
		for _, v := range Variables() {
			if v.Group != group {
				continue
			}
			name := v.Name
			if v.HasFile {
				name += "*"
			}
			meaning := v.Meaning
			if v.Default != "" {
				meaning += " [" + v.Default + "]"
			}
			indent := 32
			for i, line := range wrap(meaning, helpWidth-indent) {
				if i > 0 {
					name = ""
				}
				fmt.Fprintf(w, "  %-*s%s\n", indent-2, name, line)
			}
		}
	}
	fmt.Fprint(w, "\nTracing is configured by the OTEL_ variables of the OpenTelemetry specification, and off without\nOTEL_EXPORTER_OTLP_ENDPOINT.\n")
}

// Groups are the subjects of variables, in the order of Config.
func Groups() (groups []string) {
	seen := map[string]bool{}
	for _, v := range Variables() {
		if !seen[v.Group] {
			seen[v.Group] = true
			groups = append(groups, v.Group)
		}
	}
	return groups
}

// wrap breaks a text into lines of that width at its spaces.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
