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

// help prints the commands and every variable, by subject.
func help(w io.Writer) {
	fmt.Fprint(w, commandsHelp)
	group := ""
	for _, v := range Variables() {
		if v.Group != group {
			group = v.Group
			fmt.Fprintf(w, "\n%s\n", group)
		}
		name, meaning := v.Name, v.Meaning
		if v.HasFile {
			name += "*"
		}
		if v.Default != "" {
			meaning += " [" + v.Default + "]"
		}
		for _, line := range wrap(meaning, 68) {
			fmt.Fprintf(w, "  %-30s%s\n", name, line)
			name = ""
		}
	}
	fmt.Fprint(w, "\nTracing is configured by the OTEL_ variables of the OpenTelemetry specification, and off without\nOTEL_EXPORTER_OTLP_ENDPOINT.\n")
}

// wrap breaks a text at its spaces into lines of at most that width.
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
