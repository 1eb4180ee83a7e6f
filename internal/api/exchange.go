package api

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/sethealth/tokenvend/internal/auth"
	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/telemetry"
)

// exchange is one request and the answer to it. It travels as the http.ResponseWriter, so that no
// context value has to be made for it. The answer is held back until the log line is written: no token
// leaves that the audit log does not know.
type exchange struct {
	http.ResponseWriter
	start     time.Time
	requestID string
	route     string

	span     telemetry.Span
	identity auth.Identity
	token    sethealth.Token

	status  int
	body    []byte
	outcome string // "ok", or the code of the problem
	err     error  // the whole chain of what went wrong, for the operator
	// header values that live as long as the exchange, to spare an allocation each
	idHeader [1]string
}

// handler answers by exchange.answer, or returns why not.
type handler func(x *exchange, r *http.Request) error

func (x *exchange) answer(status int, body []byte) { x.status, x.body = status, body }

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// handle makes a handler one of chi's. Its route, not the path asked for, names it in logs and metrics.
func (s *server) handle(route string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := w.(*exchange)
		x.route = route
		if err := h(x, r); err != nil {
			x.refuse(r, err)
		}
	}
}

// exchanges is the outermost layer: it gives each request its id and its log line, and a panic its
// answer.
func (s *server) exchanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, start: time.Now(), requestID: requestID(r), outcome: "ok"}
		x.idHeader[0] = x.requestID
		h := w.Header()
		h["X-Request-Id"] = x.idHeader[:]
		h["X-Content-Type-Options"] = noSniff
		h["Cache-Control"] = noStore
		if len(r.TransferEncoding) > 0 {
			// It may have had a Content-Length too, of which net/http tells nothing: then a proxy in front
			// could see another end of it, and the connection must not go on (RFC 9112, section 6.3).
			h["Connection"] = connectionClose
		}
		s.serve(next, x, r)
		s.record(x, r)
		if len(x.body) > countedBody {
			h.Set("Content-Length", strconv.Itoa(len(x.body)))
		}
		w.WriteHeader(x.status)
		_, _ = w.Write(x.body) // the caller may have gone; the token is then lost with it
	})
}

// countedBody is up to where net/http finds the length of an answer by itself; what is longer it would
// send in chunks.
const countedBody = 2 << 10

var (
	noSniff         = []string{"nosniff"}
	noStore         = []string{"no-store"}
	connectionClose = []string{"close"}
	contentJSON     = []string{"application/json"}
	contentText     = []string{"text/plain; charset=utf-8"}
)

func (s *server) serve(next http.Handler, x *exchange, r *http.Request) {
	defer func() {
		if v := recover(); v != nil {
			// The value itself may hold anything, so its type and the stack must do.
			x.refuse(r, fmt.Errorf("%w: panic with a %T at %s", errInternal, v, debug.Stack()))
		}
	}()
	next.ServeHTTP(x, r)
}

// requestID takes the caller's X-Request-Id if it is [A-Za-z0-9._-]{1,64}, and makes one of 128 random
// bits otherwise. It is no secret, so the generator that asks the kernel for nothing will do.
func requestID(r *http.Request) string {
	if ids := r.Header["X-Request-Id"]; len(ids) == 1 && isRequestID(ids[0]) {
		return ids[0]
	}
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	var text [32]byte
	hex.Encode(text[:], id[:])
	return string(text[:])
}

func isRequestID(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 64
}
