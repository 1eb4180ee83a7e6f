package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/cors"
)

// withCORS adds the CORS headers (Fetch standard, section 3.2) to every answer for a listed origin, so that a page
// can read errors too. We match origins ourselves, because rs/cors takes an empty list for all and ignores case. We
// also answer preflights ourselves: if one asks for a header that is not allowed, rs/cors sends no CORS header at
// all, and browsers then blame the origin.
func (s *server) withCORS(next http.Handler) http.Handler {
	policy := cors.New(cors.Options{
		AllowOriginFunc:  func(string) bool { return true },
		AllowedMethods:   []string{http.MethodPost},
		ExposedHeaders:   []string{"Retry-After", "X-Request-Id"},
		AllowCredentials: true,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if w.(*record).fromListedOrigin && !isPreflight(r) {
			asPost := *r // rs/cors adds no headers to the 405 of a method that is not allowed
			asPost.Method = http.MethodPost
			policy.HandlerFunc(w, &asPost)
		} else {
			w.Header().Set("Vary", "Origin")
		}
		next.ServeHTTP(w, r)
	})
}

func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// preflight answers OPTIONS /token. A listed origin is granted the whole list whatever it asks for, so that the
// browser's console names the header that is not allowed.
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

// missing counts the requested headers that are not known. It reads at most 1 KiB of the list. The names are not
// logged, because any caller can choose them.
func missing(list string, known map[string]bool) (n int) {
	for name := range strings.SplitSeq(list[:min(len(list), 1024)], ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); name != "" && !known[name] {
			n++
		}
	}
	return n
}

// originCheck refuses requests from pages of unlisted origins. CORS alone would only hide the answer from the page:
// the token would have been requested. It runs before the session check, so that a refused page learns nothing about
// the session.
func (s *server) originCheck(next handler) handler {
	return func(x *record, r *http.Request) error {
		if !x.fromListedOrigin && fromPage(r) {
			return errOriginNotAllowed
		}
		return next(x, r)
	}
}

// fromPage reports whether a browser sent the request for a page. Browsers send Origin with every POST; where
// something on the way strips it, Sec-Fetch-Site remains.
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
