package main

import (
	"bytes"
	"encoding/json"
	"io"
	"sync"
)

// event is what the page shows of an audit record.
type event struct {
	Kind     string  `json:"event"`
	Subject  string  `json:"subject,omitempty"`
	ID       string  `json:"request_id"`
	Time     string  `json:"time"`
	Outcome  string  `json:"outcome"`
	Status   int     `json:"status"`
	Source   string  `json:"source,omitempty"`
	Token    string  `json:"token_sha256,omitempty"`
	Duration float64 `json:"duration"` // seconds
}

// auditLog writes tokenvend's log to another writer and keeps the newest 100 audit records.
type auditLog struct {
	to io.Writer

	mu     sync.Mutex
	events []event
}

// Write implements [io.Writer]. p must hold whole lines.
func (a *auditLog) Write(p []byte) (int, error) {
	a.mu.Lock()
	for line := range bytes.Lines(p) {
		var e event
		if json.Unmarshal(line, &e) == nil && e.Kind != "" {
			a.events = append(a.events[max(0, len(a.events)-99):], e)
		}
	}
	a.mu.Unlock()
	return a.to.Write(p)
}

// of returns the events of a user and those without a user, oldest first, without names.
func (a *auditLog) of(user string) []event {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := []event{}
	for _, e := range a.events {
		if e.Subject == "" || e.Subject == user {
			e.Subject = ""
			events = append(events, e)
		}
	}
	return events
}
