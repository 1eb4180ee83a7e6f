package emulator

import (
	"encoding/json"
	"net/http"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Control returns a handler that controls the emulator. Serve it on a listener of its own.
//
//	GET  /state        what has happened, and the fault of the next call
//	PUT  /faults       {"fault":"down","times":3}: ok, slow, down, refuse, invalid or revoke; for all calls without times
//	PUT  /credentials  {"key":"…","secret":"…"}: the only accepted ones from now on
//	POST /reset        sets counts to zero and ends the fault
//	POST /verify       {"token":"…"}: 200 if the token is valid, else 401; its status and claims
func (e *Emulator) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { respond(w, http.StatusOK, e.State()) })
	mux.HandleFunc("PUT /faults", e.setFault)
	mux.HandleFunc("PUT /credentials", e.setCredentials)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		e.Reset()
		respond(w, http.StatusOK, e.State())
	})
	mux.HandleFunc("POST /verify", e.verify)
	return mux
}

func (e *Emulator) setFault(w http.ResponseWriter, r *http.Request) {
	var f struct {
		Fault string
		Times int
	}
	if !readJSON(w, r, &f) {
		return
	}
	if err := e.SetNamed(f.Fault, f.Times); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	respond(w, http.StatusOK, e.State())
}

func (e *Emulator) setCredentials(w http.ResponseWriter, r *http.Request) {
	var c struct{ Key, Secret string }
	if !readJSON(w, r, &c) {
		return
	}
	if c.Key == "" || c.Secret == "" {
		http.Error(w, "key and secret are both required", http.StatusBadRequest)
		return
	}
	e.SetCredentials(secret.New(c.Key), secret.New(c.Secret))
	w.WriteHeader(http.StatusNoContent)
}

// verify answers like an API that accepts the tokens.
func (e *Emulator) verify(w http.ResponseWriter, r *http.Request) {
	var t struct{ Token string }
	if !readJSON(w, r, &t) {
		return
	}
	claims, status := e.check(t.Token)
	code := http.StatusUnauthorized
	if status == "valid" {
		code = http.StatusOK
	}
	respond(w, code, struct {
		Status string `json:"status"`
		Claims
	}{status, claims})
}

func readJSON(w http.ResponseWriter, r *http.Request, to any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}
