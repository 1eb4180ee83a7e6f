// Command peers is what tokenvend is measured against: servers that do less, or that do the same in the
// obvious way. Its one argument says which. It prints its address and serves on loopback until it is
// killed.
//
//	bare      net/http, 300 fixed bytes
//	timeouts  bare, with the time-outs that a server on the internet needs
//	chi       bare, behind a chi router
//	obvious   chi, rs/cors, go-jose, a map of tokens, log/slog, prometheus; nothing remembered of sessions
//	percall   a call to Sethealth for each request with net/http and encoding/json, as the official
//	          client makes it; no session, no log, no metrics
//	upstream  the far side of percall and tokenvend: a token for any user at once
package main

import (
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

func main() {
	if len(os.Args) != 2 {
		fail("which peer?")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	server := &http.Server{}
	switch os.Args[1] {
	case "bare":
		server.Handler = http.HandlerFunc(fixed)
	case "timeouts":
		server.Handler = http.HandlerFunc(fixed)
		server.ReadHeaderTimeout, server.ReadTimeout = 5*time.Second, 10*time.Second
		server.WriteTimeout, server.IdleTimeout = 30*time.Second, 2*time.Minute
	case "chi":
		r := chi.NewRouter()
		r.Post("/token", fixed)
		server.Handler = r
	case "obvious":
		server.Handler = newObvious()
	case "percall":
		server.Handler = newPerCall()
	case "upstream":
		u := &upstream{}
		server.Handler = u
		server.ConnState = u.count
		if file := os.Getenv("TLS_CERT_TO"); file != "" {
			overTLS(server, l, file)
			return
		}
	default:
		fail("there is no such peer")
	}
	fmt.Println(l.Addr())
	fail(server.Serve(l))
}

// overTLS serves HTTP/2 with the certificate that net/http/httptest has for 127.0.0.1, and writes that to file.
func overTLS(server *http.Server, l net.Listener, file string) {
	s := &httptest.Server{Listener: l, Config: server, EnableHTTP2: true}
	s.StartTLS()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		fail(err)
	}
	fmt.Println(l.Addr())
	select {}
}

var (
	body        = []byte(strings.Repeat("x", 300))
	contentType = []string{"application/json"}
)

// fixed is the least that a server on net/http can do.
func fixed(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = contentType
	_, _ = w.Write(body)
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "peers:", why)
	os.Exit(1)
}
