package emulator

import (
	"encoding/json"
	"net/http"

	"github.com/sethealth/tokenvend/internal/secret"
)

// Control steers the emulator over HTTP. It belongs on a listener of its own.
//
//	GET  /state        what has happened, and the faults in force
//	PUT  /faults       {"status":503,"retry_after":"2","times":3}; {} ends all faults. POST does the same
//	PUT  /credentials  {"key":"…","secret":"…"}: the only good ones from now on
//	POST /reset        counts to zero, faults ended
//	POST /verify       {"token":"…"}: what it stands for; 404 if it is not one of ours or has ended
func (e *Emulator) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, e.State()) })
	mux.HandleFunc("PUT /faults", e.setFaults)
	mux.HandleFunc("POST /faults", e.setFaults)
	mux.HandleFunc("PUT /credentials", e.setCredentials)
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		e.Reset()
		writeJSON(w, e.State())
	})
	mux.HandleFunc("POST /verify", e.verify)
	return mux
}

func (e *Emulator) setFaults(w http.ResponseWriter, r *http.Request) {
	var f Faults
	if !readJSON(w, r, &f) {
		return
	}
	e.Set(f)
	writeJSON(w, e.State())
}

func (e *Emulator) setCredentials(w http.ResponseWriter, r *http.Request) {
	var c struct{ Key, Secret string }
	if !readJSON(w, r, &c) {
		return
	}
	if c.Key == "" || c.Secret == "" {
		http.Error(w, "key and secret must both be there", http.StatusBadRequest)
		return
	}
	e.SetCredentials(secret.New(c.Key), secret.New(c.Secret))
	w.WriteHeader(http.StatusNoContent)
}

func (e *Emulator) verify(w http.ResponseWriter, r *http.Request) {
	var t struct{ Token string }
	if !readJSON(w, r, &t) {
		return
	}
	claims, ok := e.Verify(t.Token)
	if !ok {
		http.Error(w, "not a living token of this emulator", http.StatusNotFound)
		return
	}
	writeJSON(w, claims)
}

func readJSON(w http.ResponseWriter, r *http.Request, to any) bool {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxQuestion))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
