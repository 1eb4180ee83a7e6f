package harness

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// Metric is the sum of a metric's series whose labels hold all of those given, as `result="failed"`.
func (s *Service) Metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	scan := bufio.NewScanner(strings.NewReader(s.Metrics()))
lines:
	for scan.Scan() {
		series, value, _ := strings.Cut(scan.Text(), " ")
		bare, _, _ := strings.Cut(series, "{")
		if bare != name {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(series, label) {
				continue lines
			}
		}
		n, err := strconv.ParseFloat(value, 64)
		require.NoError(s.t, err)
		sum += n
	}
	return sum
}

// Descriptors is how many files and connections the process has open.
func (s *Service) Descriptors() int {
	s.t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
	require.NoError(s.t, err)
	return len(open)
}

// Record is the audit record of an answer, by its request id.
func (s *Service) Record(a Answer) (record map[string]any) {
	s.t.Helper()
	id := a.Header.Get("X-Request-Id")
	Eventually(s.t, 5*time.Second, "the audit record of "+id, func() bool {
		for _, line := range s.Log() {
			if line["request_id"] == id {
				record = line
			}
		}
		return record != nil
	})
	return record
}
