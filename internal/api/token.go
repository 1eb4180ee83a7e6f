package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sethealth/tokenvend/internal/telemetry"
)

// sessionGate asks who is calling. What the caller says of itself anywhere else is not looked at.
func (s *server) sessionGate(next handler) handler {
	return func(x *exchange, r *http.Request) (err error) {
		if x.identity, err = s.Sessions.Authenticate(r); err != nil {
			return err
		}
		return next(x, r)
	}
}

// token hands the caller a token of its own.
func (s *server) token(x *exchange, r *http.Request) error {
	minLife, err := s.readMinLife(x, r)
	if err != nil {
		return err
	}
	if x.token, err = s.Issuer.Issue(r.Context(), x.identity.Subject, minLife); err != nil {
		return err
	}
	x.Header()["Content-Type"] = contentJSON
	x.answer(http.StatusOK, x.tokenBody(time.Now()))
	return nil
}

// tokenBody is {"token":…,"expires_in":…,"expires_at":…}; without the last two if the token's end is not
// known. Written by hand: encoding/json takes four times as long.
func (x *exchange) tokenBody(now time.Time) []byte {
	token := x.token.Value.Reveal()
	body := make([]byte, 0, len(token)+80)
	body = append(body, `{"token":`...)
	body = appendToken(body, token)
	if !x.token.Expires.IsZero() {
		left := max(0, x.token.Life(now)/time.Second)
		body = append(body, `,"expires_in":`...)
		body = strconv.AppendInt(body, int64(left), 10)
		body = append(body, `,"expires_at":"`...)
		body = x.token.Expires.UTC().Truncate(time.Second).AppendFormat(body, time.RFC3339)
		body = append(body, '"')
	}
	return append(body, '}')
}

// appendToken quotes a token as JSON. sethealth has seen to it that no control character and no broken UTF-8 is
// in it, so two characters are left to look for.
func appendToken(dst []byte, token string) []byte {
	if strings.IndexByte(token, '"') >= 0 || strings.IndexByte(token, '\\') >= 0 {
		return telemetry.AppendJSON(dst, token)
	}
	dst = append(dst, '"')
	dst = append(dst, token...)
	return append(dst, '"')
}
