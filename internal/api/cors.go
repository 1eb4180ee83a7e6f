package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/cors"
)

// withCORS puts the CORS headers (Fetch standard, section 3.2) of a listed origin on every answer, so that a
// page can read errors too. The list of origins is ours: rs/cors takes an empty one for all, and folds case.
// So is the preflight's answer: rs/cors gives one that asks for a header too many no header at all, and
// browsers then blame the origin.
func (s *server) withCORS(next http.Handler) http.Handler {
	policy := cors.New(cors.Options{
		AllowOriginFunc:  func(string) bool { return true },
		AllowedMethods:   []string{http.MethodPost},
		ExposedHeaders:   []string{"Retry-After", "X-Request-Id"},
		AllowCredentials: true,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if w.(*record).fromListedOrigin && !isPreflight(r) {
			if r.Method == http.MethodPost {
				policy.HandlerFunc(w, r)
			} else { // rs/cors would leave the 405 to any other method bare
				asPost := *r
				asPost.Method = http.MethodPost
				policy.HandlerFunc(w, &asPost)
			}
		} else {
			w.Header().Set("Vary", "Origin")
		}
		next.ServeHTTP(w, r)
	})
}

func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// preflight answers OPTIONS /token. Of a listed origin it grants the whole list, whatever was asked for, so
// that the browser's console names the header that is missing.
func (s *server) preflight() handler {
	names := s.requestHeaders()
	granted := strings.Join(names, ", ")
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[strings.ToLower(name)] = true
	}
	return func(x *record, r *http.Request) error {
		h := x.Header()
		h.Set("Allow", "POST, OPTIONS")
		if origin := r.Header.Get("Origin"); origin != "" && isPreflight(r) {
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
			h.Set("Access-Control-Allow-Methods", http.MethodPost)
			h.Set("Access-Control-Allow-Headers", granted)
			h.Set("Access-Control-Max-Age", strconv.Itoa(int(s.MaxAge/time.Second)))
			x.notGranted = missing(r.Header.Get("Access-Control-Request-Headers"), known)
			if r.Header.Get("Access-Control-Request-Method") != http.MethodPost {
				x.notGranted++
			}
		}
		x.answer(http.StatusNoContent, nil)
		return nil
	}
}

// missing counts the names of a preflight that are not known; what a caller writes there is not for the log.
// A list longer than any page's is not read on.
func missing(list string, known map[string]bool) (n int) {
	for name := range strings.SplitSeq(list[:min(len(list), 1024)], ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !known[name] {
			n++
		}
	}
	return n
}

// originCheck refuses what a page of an unlisted origin sends. CORS alone only hides the answer from the
// page: the token would have been requested. It comes before the session check, so that a refused page
// learns nothing of the session.
func (s *server) originCheck(next handler) handler {
	return func(x *record, r *http.Request) error {
		if !x.fromListedOrigin && fromPage(r) {
			return errOriginNotAllowed
		}
		return next(x, r)
	}
}

// fromPage reports whether a browser sent the request for a page of another origin. Browsers send Origin with
// every POST; where something strips it, they still say Sec-Fetch-Site.
func fromPage(r *http.Request) bool {
	if _, present := r.Header["Origin"]; present {
		return true
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site == "cross-site" || site == "same-site" {
			return true
		}
	}
	return false
}
