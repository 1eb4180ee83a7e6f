package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// token issues a token to the signed-in user. A request counts towards MAX_IN_FLIGHT only after its session has been
// checked and its body read, so that slow callers and slow session checks do not block others.
func (s *server) token(x *record, r *http.Request) error {
	if err := s.authenticate(x, r); err != nil {
		return err
	}
	asked, err := s.readBody(x, r)
	if err != nil {
		return err
	}
	if err := s.admit(x); err != nil {
		return err
	}
	if err := s.limit(x, r); err != nil {
		return err
	}
	if x.token, err = s.Issuer.Issue(r.Context(), x.user, asked); err != nil {
		return err
	}
	x.Header().Set("Content-Type", "application/json")
	x.answer(http.StatusOK, tokenBody(x.token, x.user, time.Now()))
	return nil
}

// authenticate identifies the user by the session check alone.
func (s *server) authenticate(x *record, r *http.Request) error {
	result, err := s.Sessions.Authenticate(r)
	x.user = sethealth.User(result.Identity)
	for _, cookie := range result.SetCookies {
		x.Header().Add("Set-Cookie", cookie)
	}
	return err
}

// admit counts the request as in flight until the network has taken the answer.
func (s *server) admit(x *record) error {
	if s.inFlight.Add(1) > int64(s.MaxInFlight) {
		s.inFlight.Add(-1)
		return errOverloaded
	}
	x.done = func() { s.inFlight.Add(-1) }
	return nil
}

// limit enforces RATE_LIMIT. It runs after the session check, so that nobody can use up another user's share.
func (s *server) limit(x *record, r *http.Request) error {
	if s.Limiter == nil {
		return nil
	}
	wait, ok := s.Limiter.Allow(r.Context(), x.user)
	if ok {
		return nil
	}
	x.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	return errRateLimited
}

// tokenBody encodes the answer. Without a known expiry, expires_in and expires_at are left out.
func tokenBody(token sethealth.Token, user sethealth.User, now time.Time) []byte {
	answer := struct {
		Token     string `json:"token"`
		TokenID   string `json:"token_id"`
		UserHash  string `json:"user_hash"`
		ExpiresIn *int64 `json:"expires_in,omitempty"`
		ExpiresAt string `json:"expires_at,omitempty"`
	}{Token: token.Value.Reveal(), TokenID: token.ID, UserHash: user.Hash()}
	if !token.Expires.IsZero() {
		left := int64(max(0, token.Remaining(now)/time.Second))
		answer.ExpiresIn = &left
		answer.ExpiresAt = token.Expires.UTC().Truncate(time.Second).Format(time.RFC3339)
	}
	body, _ := json.Marshal(answer) // never fails for strings and a number
	return body
}
