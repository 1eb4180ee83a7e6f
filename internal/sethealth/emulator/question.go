package emulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/secret"
)

const (
	maxQuestion = 16 << 10
	maxLife     = 24 * time.Hour
)

// question is the body of a call that keeps to the contract.
type question struct {
	id, secret secret.Value
	user       string
	expiresIn  time.Duration
	testMode   bool
}

// problem is a refusal. The emulator says what is wrong with a call, for the eyes of a developer; it
// never repeats what it was sent.
type problem struct {
	status int
	text   string
}

func (p *problem) write(w http.ResponseWriter) {
	if p.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": p.text})
}

func badRequest(format string, args ...any) *problem {
	return &problem{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// readQuestion holds a request to the contract, to the last detail.
func readQuestion(w http.ResponseWriter, r *http.Request) (question, *problem) {
	switch {
	case r.URL.EscapedPath() != "/token":
		return question{}, &problem{http.StatusNotFound, "there is only /token"}
	case r.Method != http.MethodPost:
		return question{}, &problem{http.StatusMethodNotAllowed, "there is only POST"}
	case r.URL.RawQuery != "":
		return question{}, badRequest("the URL has a query")
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return question{}, &problem{http.StatusUnsupportedMediaType, "the content type is not application/json in UTF-8"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		return question{}, &problem{http.StatusRequestEntityTooLarge, "the body cannot be read or is too large"}
	}
	return parseQuestion(body)
}

func parseQuestion(body []byte) (question, *problem) {
	fields, p := object(body)
	if p != nil {
		return question{}, p
	}
	var q question
	var id, secretText string
	for _, field := range []struct {
		name     string
		required bool
		set      func(json.RawMessage) bool
	}{
		{"id", true, text(&id)},
		{"secret", true, text(&secretText)},
		{"user-id", false, text(&q.user)},
		{"expires-in", false, nanoseconds(&q.expiresIn)},
		{"test-mode", true, boolean(&q.testMode)},
	} {
		raw, there := fields[field.name]
		delete(fields, field.name)
		switch {
		case !there && field.required:
			return question{}, badRequest("%s is missing", field.name)
		case there && !field.set(raw):
			return question{}, badRequest("%s is not what it must be", field.name)
		}
	}
	if len(fields) > 0 {
		return question{}, badRequest("the body has a field that is unknown")
	}
	q.id, q.secret = secret.New(id), secret.New(secretText)
	return q, nil
}

// object is one JSON object without doubles and with nothing after it.
func object(body []byte) (map[string]json.RawMessage, *problem) {
	notObject := badRequest("the body is not one JSON object")
	dec := json.NewDecoder(bytes.NewReader(body))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, notObject
	}
	fields := make(map[string]json.RawMessage)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, notObject
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, notObject
		}
		name, _ := key.(string) // the key of an object is one
		if _, twice := fields[name]; twice {
			return nil, badRequest("the body has a field twice")
		}
		fields[name] = value
	}
	if _, err := dec.Token(); err != nil || dec.InputOffset() != int64(len(body)) {
		return nil, notObject
	}
	return fields, nil
}

func text(to *string) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool { return json.Unmarshal(raw, to) == nil && *to != "" }
}

func boolean(to *bool) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		*to = string(raw) == "true"
		return *to || string(raw) == "false"
	}
}

var integer = regexp.MustCompile(`^[1-9][0-9]*$`)

// nanoseconds takes a second and more only: who asks for 3600 forgot the unit.
func nanoseconds(to *time.Duration) func(json.RawMessage) bool {
	return func(raw json.RawMessage) bool {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		*to = time.Duration(n)
		return err == nil && integer.Match(raw) && *to >= time.Second && *to <= maxLife
	}
}
