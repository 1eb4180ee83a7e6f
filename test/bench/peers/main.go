// Command peers are the servers that tokenvend is measured against. The argument names one:
//
//	bare        net/http and 300 fixed bytes
//	obvious     chi, rs/cors, go-jose, a map of tokens, log/slog, prometheus; no session is remembered
//	serverless  a function that checks the origin and requests a token from Sethealth for each page load
//	users       tokenvend's handler, with USERS in memory from the start
//	upstream    Sethealth's side for all of them, at once or after DELAY
//
// It prints its address and serves on loopback until it is killed.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	var handler http.Handler
	switch name := strings.Join(os.Args[1:], " "); name {
	case "bare":
		handler = http.HandlerFunc(bare)
	case "obvious":
		handler = newObvious()
	case "serverless":
		handler = http.HandlerFunc(serverless)
	case "users":
		handler = newUsers()
	case "upstream":
		handler = http.HandlerFunc(upstream)
	default:
		fail("there is no peer " + name)
	}
	fmt.Println(l.Addr())
	fail(http.Serve(l, handler))
}

var (
	body        = []byte(strings.Repeat("x", 300))
	contentType = []string{"application/json"}
)

// bare is the least that a server on net/http can do.
func bare(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = contentType
	_, _ = w.Write(body)
}

var delay, _ = time.ParseDuration(os.Getenv("DELAY"))

// upstream issues a token of 300 bytes for any user. The emulator keeps a history and would be the slower side.
func upstream(w http.ResponseWriter, r *http.Request) {
	var request struct {
		User string `json:"user-id"`
	}
	if json.NewDecoder(r.Body).Decode(&request) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	time.Sleep(delay)
	w.Header()["Content-Type"] = contentType
	_, _ = w.Write([]byte(`{"token":"` + (request.User + "." + strings.Repeat("t", 300))[:300] + `"}`))
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, "peers:", why)
	os.Exit(1)
}
