package telemetry

import (
	"net/http"
	"time"
)

// NewCollectorTransport is how a collector is asked, over connections of a test.
func NewCollectorTransport(connections *http.Transport) http.RoundTripper {
	return &collectorTransport{connections: connections, since: time.Now()}
}
