package harness

import (
	"net"
	"net/http"
	"testing"

	"github.com/sethealth/tokenvend/internal/testkit"
)

// Site is a server whose address stays the same through outages.
type Site struct {
	URL     string
	t       testing.TB
	address string
	handler http.Handler
	server  *http.Server
}

// NewSite makes a site that answers once it is Up.
func NewSite(t testing.TB, handler http.Handler) *Site {
	t.Helper()
	address := "127.0.0.1:" + testkit.FreePort(t)
	s := &Site{"http://" + address, t, address, handler, &http.Server{}}
	t.Cleanup(s.Down)
	return s
}

// Up makes it answer.
func (s *Site) Up() {
	s.t.Helper()
	s.Down()
	var listener net.Listener
	Eventually(s.t, "the address is free", func() bool { // a process that is starting may still hold a copy
		var err error
		listener, err = net.Listen("tcp", s.address)
		return err == nil
	})
	server := &http.Server{Handler: s.handler}
	s.server = server
	go func() { _ = server.Serve(listener) }()
}

// Down makes it refuse connections and closes those that are open.
func (s *Site) Down() { _ = s.server.Close() }
