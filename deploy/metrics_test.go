package deploy_test

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type metric struct {
	kind   string
	labels []string
}

// documented returns the metrics in docs/metrics.md, and those of the client library that queries here use.
func documented(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	row := regexp.MustCompile("(?m)^`([a-z0-9_]+)` \\| (counter|gauge|histogram|summary) \\| (.*?)\\| ")
	for _, m := range row.FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		require.NotContains(t, all, m[1], "a duplicate row")
		all[m[1]] = metric{m[2], regexp.MustCompile(`[a-z_]+`).FindAllString(m[3], -1)}
	}
	require.Greater(t, len(all), 20)
	for _, name := range []string{"process_start_time_seconds", "process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_max_fds", "go_goroutines", "go_gc_gomemlimit_bytes"} {
		all[name] = metric{kind: "gauge"}
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:up|(?:tokenvend|go|process|promhttp)_[a-z0-9_]+)\b`)
	selector   = regexp.MustCompile(`\{[^}]*\}`)
	matcher    = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
	histogram  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// checkQuery requires that a query uses known metrics and their labels. It returns the metrics.
func checkQuery(t *testing.T, query string, known map[string]metric) (used []string) {
	t.Helper()
	labels := map[string]bool{"job": true, "instance": true} // Prometheus's own
	outside := grouping.ReplaceAllString(selector.ReplaceAllString(query, ""), "")
	for _, name := range metricName.FindAllString(outside, -1) {
		if name == "up" {
			continue
		}
		if base := histogram.ReplaceAllString(name, ""); known[base].kind == "histogram" {
			name, labels["le"] = base, true
		} else if suffix := histogram.FindString(name); suffix != "" {
			assert.Contains(t, known, name, query)
		}
		require.Contains(t, known, name, "%s: no such metric", query)
		used = append(used, name)
		for _, label := range known[name].labels {
			labels[label] = true
		}
	}
	for _, s := range selector.FindAllString(query, -1) {
		for _, m := range matcher.FindAllStringSubmatch(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(s, `""`), -1) {
			assert.Contains(t, labels, m[1], "%s: no such label", query)
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(g[1], ",") {
			assert.Contains(t, labels, strings.TrimSpace(label), "%s: no such label", query)
		}
	}
	return used
}

func TestEveryQueryOfTheDashboardNamesExportedMetricsAndTheirLabels(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "grafana/dashboard.json")), &dashboard))
	known := documented(t)
	shown := map[string]bool{}
	for _, p := range dashboard.Panels {
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			for _, name := range checkQuery(t, target.Expr, known) {
				shown[name] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if strings.HasPrefix(name, "tokenvend_") {
			assert.Contains(t, shown, name, "no panel shows it")
		}
	}
}

func TestEveryAlertNamesExportedMetricsAndHasOneEntryInTheRunbook(t *testing.T) {
	const page = "https://github.com/sethealth/tokenvend/blob/main/docs/runbook.md#"
	entries := map[string]string{}
	for _, part := range strings.Split(read(t, "../docs/runbook.md"), "\n### ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		require.NotContains(t, entries, title, "a duplicate entry")
		entries[title] = text
	}
	type file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	groups := documents[file](t, read(t, "prometheus/alerts.yaml"))[0].Groups
	require.Len(t, groups, 1)
	known := documented(t)
	for _, a := range groups[0].Rules {
		checkQuery(t, a.Expr, known)
		text, ok := entries[a.Alert]
		if !assert.True(t, ok, "%s has no entry", a.Alert) {
			continue
		}
		delete(entries, a.Alert)
		for _, part := range []string{"**Users see**", "**Look at**", "**Do**"} {
			assert.Contains(t, text, part, a.Alert)
		}
		assert.Equal(t, page+strings.ToLower(a.Alert), a.Annotations["runbook_url"])
		assert.NotEmpty(t, a.Annotations["summary"], a.Alert)
		assert.NotEmpty(t, a.Annotations["description"], a.Alert)
		assert.Contains(t, []string{"critical", "warning"}, a.Labels["severity"], a.Alert)
		assert.Contains(t, read(t, "prometheus/alerts_test.yaml"), `- name: "`+a.Alert+`: `, "%s has no test", a.Alert)
	}
	assert.Empty(t, entries, "entries without an alert")
}

func TestPromtoolAcceptsTheRulesAndTheirTests(t *testing.T) {
	t.Parallel() // it is slow
	run(t, "promtool", "check", "config", "prometheus/prometheus.yaml")
	run(t, "promtool", "test", "rules", "prometheus/alerts_test.yaml")
}
