package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
)

// withCORS puts the CORS headers (Fetch standard, section 3.2) of a listed origin on every answer, so
// that a page can read errors too.
//
// What a page may send is POST alone; what it may read is the answer to whatever was sent, the 405 to any
// other method included. rs/cors would leave that one bare, so it is asked as for a POST.
func (s *server) withCORS(next http.Handler) http.Handler {
	policy := cors.New(cors.Options{
		// Our own matching: theirs takes an empty list for all, and folds case.
		AllowOriginVaryRequestFunc: func(r *http.Request, _ string) (bool, []string) { return s.Origins.allows(r), nil },
		AllowedMethods:             []string{http.MethodPost},
		AllowedHeaders:             []string{"Authorization", "Content-Type", "X-Request-Id", "traceparent"},
		ExposedHeaders:             []string{"Retry-After", "X-Request-Id"},
		AllowCredentials:           true,
		MaxAge:                     maxAge(s.CORSMaxAge),
		OptionsPassthrough:         true, // the route answers, after the origin gate
	})
	send := policy.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodOptions:
			sortRequestHeaders(r.Header["Access-Control-Request-Headers"])
			send.ServeHTTP(w, r)
		case http.MethodPost:
			send.ServeHTTP(w, r)
		default:
			asPost := r.WithContext(r.Context())
			asPost.Method = http.MethodPost
			policy.HandlerFunc(w, asPost)
			next.ServeHTTP(w, r)
		}
	})
}

// sortRequestHeaders brings the names of a preflight into the form that browsers send and rs/cors relies on:
// in lower case and sorted. People with curl write them as they come to mind. A list that is longer than
// all we allow stays as it is, and costs nothing.
func sortRequestHeaders(lists []string) {
	if len(lists) != 1 || len(lists[0]) > 256 {
		return
	}
	names := strings.Split(strings.ToLower(lists[0]), ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	slices.Sort(names)
	lists[0] = strings.Join(slices.Compact(names), ",")
}

// maxAge in seconds; rs/cors leaves the header out for 0 and writes "0" for a negative.
func maxAge(d time.Duration) int {
	if d < time.Second {
		return -1
	}
	return int(d / time.Second)
}

// originGate refuses what a page of an unlisted origin sends. CORS alone only hides the answer from the
// page: the token would have been bought. It stands before the session check, so a refused page learns
// nothing of the session either.
func (s *server) originGate(next handler) handler {
	return func(x *exchange, r *http.Request) error {
		if !s.fromListedOrigin(r) {
			return errOriginNotAllowed
		}
		return next(x, r)
	}
}

func (s *server) fromListedOrigin(r *http.Request) bool {
	origin, present := r.Header["Origin"]
	if !present {
		// Browsers send Origin with every POST; where something strips it, they still say this.
		for _, site := range r.Header["Sec-Fetch-Site"] {
			if site == "cross-site" || site == "same-site" {
				return false
			}
		}
		return true
	}
	return s.Origins.allows(r) || len(origin) == 1 && isOwnOrigin(origin[0], r)
}

// isOwnOrigin compares without a scheme's help where TLS ends in front of us.
func isOwnOrigin(origin string, r *http.Request) bool {
	return origin == "https://"+r.Host || r.TLS == nil && origin == "http://"+r.Host
}

// preflight is the answer to OPTIONS; its CORS headers are there already.
func (s *server) preflight(x *exchange, _ *http.Request) error {
	x.Header()["Allow"] = []string{"POST, OPTIONS"}
	x.answer(http.StatusNoContent, nil)
	return nil
}
