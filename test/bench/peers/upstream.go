package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// upstream stands for Sethealth where the emulator, which keeps a history, would be the slower side.
// GET /connections tells how many connections have been made to it.
type upstream struct{ connections atomic.Int64 }

func (u *upstream) count(_ net.Conn, state http.ConnState) {
	if state == http.StateNew {
		u.connections.Add(1)
	}
}

var (
	padding  = strings.Repeat("abcdefghijklmnopqrstuvwxyz012345", 256)
	size, _  = strconv.Atoi(os.Getenv("TOKEN_SIZE"))
	delay, _ = time.ParseDuration(os.Getenv("DELAY"))
)

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/connections" {
		_, _ = w.Write(strconv.AppendInt(nil, u.connections.Load(), 10))
		return
	}
	var question struct {
		User string `json:"user-id"`
	}
	if json.NewDecoder(r.Body).Decode(&question) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	time.Sleep(delay)
	token := question.User + "." + padding
	w.Header()["Content-Type"] = contentType
	_, _ = w.Write([]byte(`{"token":"` + token[:max(size, len(question.User)+1)] + `"}`))
}
