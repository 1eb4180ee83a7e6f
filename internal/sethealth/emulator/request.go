package emulator

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"time"
)

const (
	maxRequest = 16 << 10
	maxLife    = 24 * time.Hour
)

// tokenRequest is the body of a call. Marshalled, it is what tokenvend sends.
type tokenRequest struct {
	ID        string        `json:"id"`
	Secret    string        `json:"secret"`
	UserID    string        `json:"user-id,omitempty"`
	ExpiresIn time.Duration `json:"expires-in,omitempty"` // nanoseconds
	TestMode  bool          `json:"test-mode"`
}

// problem is why a call is refused, for a developer to read. It never quotes the call.
type problem struct {
	status int
	text   string
}

// readRequest accepts whatever Sethealth's own clients send: members that are absent, empty, zero or null, and
// any content type. The Go client sends the id as key.
func readRequest(w http.ResponseWriter, r *http.Request, strict bool) (tokenRequest, *problem) {
	switch {
	case r.URL.EscapedPath() != "/token":
		return tokenRequest{}, &problem{http.StatusNotFound, "only /token is served"}
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return tokenRequest{}, &problem{http.StatusMethodNotAllowed, "only POST is allowed"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		return tokenRequest{}, &problem{http.StatusRequestEntityTooLarge, "the body cannot be read or is too large"}
	}
	var request struct {
		tokenRequest
		Key string `json:"key"`
	}
	if json.Unmarshal(body, &request) != nil {
		return tokenRequest{}, &problem{http.StatusBadRequest, "the body is not a JSON object with members of the right types"}
	}
	if strict {
		return request.tokenRequest, checkStrict(r, body, request.tokenRequest)
	}
	request.ID = cmp.Or(request.ID, request.Key)
	if request.ExpiresIn < 0 {
		return tokenRequest{}, &problem{http.StatusBadRequest, "expires-in is negative"}
	}
	return request.tokenRequest, nil
}

// checkStrict requires exactly what the contract says: encoded again, the request must be the same bytes.
func checkStrict(r *http.Request, body []byte, request tokenRequest) *problem {
	var exact bytes.Buffer
	e := json.NewEncoder(&exact)
	e.SetEscapeHTML(false)
	_ = e.Encode(request) // never fails on strings, numbers and booleans
	switch {
	case r.URL.RawQuery != "":
		return &problem{http.StatusBadRequest, "the URL has a query"}
	case r.Header.Get("Content-Type") != "application/json; charset=utf-8":
		return &problem{http.StatusUnsupportedMediaType, "the content type is not application/json; charset=utf-8"}
	case request.ID == "" || request.Secret == "":
		return &problem{http.StatusBadRequest, "id or secret is missing"}
	case request.ExpiresIn != 0 && request.ExpiresIn < time.Second || request.ExpiresIn > maxLife:
		return &problem{http.StatusBadRequest, "expires-in is not from a second to a day, in nanoseconds"}
	case !bytes.Equal(body, bytes.TrimSuffix(exact.Bytes(), []byte("\n"))):
		return &problem{http.StatusBadRequest, `the members are not id, secret, user-id, expires-in and test-mode, in this order, ` +
			`written without white space, user-id and expires-in left out where they say nothing`}
	}
	return nil
}
