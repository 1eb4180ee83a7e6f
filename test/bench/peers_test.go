//go:build linux

package bench_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// peers are the servers that tokenvend is compared to, and a stand-in for Sethealth.
var peers = map[string]func() http.Handler{
	"bare":       func() http.Handler { return http.HandlerFunc(bare) },
	"obvious":    newObvious,
	"serverless": func() http.Handler { return http.HandlerFunc(serverless) },
	"users":      newUsers,
	"upstream":   func() http.Handler { return http.HandlerFunc(upstream) },
}

// servePeer serves at LISTEN_ADDR until the process is killed.
func servePeer(name string) { panic(http.ListenAndServe(os.Getenv("LISTEN_ADDR"), peers[name]())) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const tokenSize = 300

// token returns a token that contains the user's name, so that no two tokens share memory.
func token(user string) string { return user + "." + strings.Repeat("t", tokenSize-1-len(user)) }

// bare writes a fixed answer.
func bare(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = contentType
	_, _ = w.Write(body)
}

var (
	body        = bytes.Repeat([]byte("x"), tokenSize)
	contentType = []string{"application/json"}
	delay, _    = time.ParseDuration(os.Getenv("DELAY"))
)

// upstream issues tokens after DELAY. The emulator would be too slow, as it keeps a history.
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
	_, _ = w.Write([]byte(`{"token":"` + token(request.User) + `"}`))
}

// serverless is the function that teams deploy without tokenvend: any caller with the right Origin gets a token.
func serverless(w http.ResponseWriter, r *http.Request) {
	origin := os.Getenv("CORS_ALLOWED_ORIGINS")
	if r.Header.Get("Origin") != origin {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	token, err := requestToken("")
	if err != nil {
		http.Error(w, "no token", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// requestToken requests a token as Sethealth's official Go client does.
func requestToken(user string) (string, error) {
	request, _ := json.Marshal(map[string]any{
		"id": os.Getenv("SETHEALTH_KEY"), "secret": os.Getenv("SETHEALTH_SECRET"), "user-id": user, "expires-in": 3600,
	})
	resp, err := http.Post(os.Getenv("SETHEALTH_URL")+"/token", "application/json", bytes.NewReader(request))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", resp.StatusCode)
	}
	var answer struct{ Token string }
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer.Token, err
}
