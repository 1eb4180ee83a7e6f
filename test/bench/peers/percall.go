package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"
)

// client asks Sethealth as its official Go client does: a POST for each call, with the standard
// library's own client and encoding/json.
type client struct{ url, key, secret string }

func newClient() client {
	return client{os.Getenv("SETHEALTH_URL"), os.Getenv("SETHEALTH_KEY"), os.Getenv("SETHEALTH_SECRET")}
}

func (c client) token(user string) (string, error) {
	question, err := json.Marshal(map[string]any{
		"id": c.key, "secret": c.secret, "user-id": user, "expires-in": time.Hour, "test-mode": false,
	})
	if err != nil {
		return "", err
	}
	resp, err := http.Post(c.url+"/token", "application/json; charset=utf-8", bytes.NewReader(question))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(resp.Status)
	}
	var answer struct{ Token string }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Token, err
}

// keepConnections gives the standard client room for more idle connections to a host than two, if the
// environment asks for it: otherwise it makes and drops nearly one for each call.
func keepConnections() {
	if os.Getenv("KEEP_CONNECTIONS") == "true" {
		http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 1000
	}
}

// newPerCall takes the user from a header: it stands for the call alone.
func newPerCall() http.Handler {
	keepConnections()
	c := newClient()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := c.token(r.Header.Get("X-User"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 3600})
	})
}
