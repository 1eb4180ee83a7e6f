package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// serverless is what a team without tokenvend deploys: anybody who sends the right Origin gets a token.
func serverless(w http.ResponseWriter, r *http.Request) {
	origin := os.Getenv("CORS_ALLOWED_ORIGINS")
	if r.Header.Get("Origin") != origin {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	token, err := requestToken("")
	if err != nil {
		http.Error(w, "no token", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

// requestToken asks Sethealth as its official Go client does, for the obvious design too.
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
