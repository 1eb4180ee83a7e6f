package harness

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// Answer is a response with its whole body.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Code returns the code of a problem document, or "ok".
func (a Answer) Code() string {
	if a.Status < 300 {
		return "ok"
	}
	return a.body().Code
}

// Token returns the token of a success.
func (a Answer) Token() string { return a.body().Token }

// TokenID returns the id of that token.
func (a Answer) TokenID() string { return a.body().TokenID }

// ExpiresIn returns the remaining lifetime of that token.
func (a Answer) ExpiresIn() time.Duration { return time.Duration(a.body().ExpiresIn) * time.Second }

func (a Answer) body() (members struct {
	Code, Token string
	TokenID     string `json:"token_id"`
	ExpiresIn   int    `json:"expires_in"`
},
) {
	_ = json.Unmarshal([]byte(a.Body), &members)
	return members
}

// Client trusts any certificate and follows no redirect. It opens a connection for each request: an idle one may be
// closed by the service at the moment at which it is used again.
var Client = &http.Client{
	Timeout:       time.Minute,
	Transport:     &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// Do sends a request. Headers are pairs of name and value.
func (s *Service) Do(method, path, body string, headers ...string) Answer {
	s.t.Helper()
	answer, err := s.Try(method, path, body, headers...)
	require.NoError(s.t, err)
	return answer
}

// Try is Do for requests that may fail, and for goroutines other than the test's.
func (s *Service) Try(method, path, body string, headers ...string) (Answer, error) {
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	answer, err := Send(req)
	if err == nil {
		if fault := conforms(method, path, answer); fault != nil {
			s.t.Errorf("docs/openapi.yaml: %v", fault)
		}
	}
	return answer, err
}

// Send sends a request by Client and reads the answer. On a busy machine, the five seconds that the service waits for a
// request may pass between connecting and sending it: then it is sent once more.
func Send(req *http.Request) (Answer, error) {
	began := time.Now()
	resp, err := Client.Do(req)
	if err != nil && time.Since(began) >= 5*time.Second {
		if req.GetBody != nil {
			req.Body, _ = req.GetBody()
		}
		resp, err = Client.Do(req)
	}
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, string(body)}, err
}

// Ask requests a token with session as a bearer token.
func (s *Service) Ask(session string, headers ...string) Answer {
	s.t.Helper()
	return s.Do("POST", "/token", "", append([]string{"Authorization", "Bearer " + session}, headers...)...)
}

// Ready waits until /readyz is 200.
func (s *Service) Ready() {
	s.t.Helper()
	Eventually(s.t, "readiness", func() bool { return s.Do("GET", "/readyz", "").Status == 200 })
}

// AdminGet returns a page of the admin listener.
func (s *Service) AdminGet(path string) string {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.Admin+path, nil)
	require.NoError(s.t, err)
	answer, err := Send(req)
	require.NoError(s.t, err)
	return answer.Body
}
