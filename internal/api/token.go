package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
)

// token issues the caller a token of its own. A request takes a place among those in flight once its session
// is checked and its body is read, so that slow callers and slow session checks keep out nobody else.
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

// authenticate asks who is calling. What the caller says of itself anywhere else is not looked at.
func (s *server) authenticate(x *record, r *http.Request) error {
	result, err := s.Sessions.Authenticate(r)
	x.user = sethealth.User(result.Identity)
	for _, cookie := range result.SetCookies {
		x.Header().Add("Set-Cookie", cookie)
	}
	return err
}

// admit takes a place among the requests in flight until the network has taken the answer.
func (s *server) admit(x *record) error {
	if s.inFlight.Add(1) > int64(s.MaxInFlight) {
		s.inFlight.Add(-1)
		return errOverloaded
	}
	x.done = func() { s.inFlight.Add(-1) }
	return nil
}

// limit keeps each user to RATE_LIMIT. It comes after the session check, so that nobody can use up another
// user's share.
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

// tokenBody is the answer. Without a known end of the token its two fields are left out.
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
	body, _ := json.Marshal(answer) // strings and a number always marshal
	return body
}
