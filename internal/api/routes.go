package api

import (
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/sethealth/tokenvend/client"
)

// routes is the whole route table, with the checks before each handler in order. CORS runs before all of them.
func (s *server) routes() http.Handler {
	r := chi.NewRouter()
	get := func(path string, h handler) {
		r.Get(s.BasePath+path, s.handle(path, h))
		r.Head(s.BasePath+path, s.handle(path, h))
	}

	r.Options(s.BasePath+"/token", s.handle("/token", s.originCheck(s.preflight())))
	r.Post(s.BasePath+"/token", s.handle("/token", s.traced(s.originCheck(s.token))))
	get("/healthz", s.healthz)
	get("/readyz", s.readyz)
	if s.ClientJS {
		get("/client.js", file(client.Module()))
		get("/client.d.ts", file(client.Types()))
	}
	r.NotFound(s.handle("unmatched", func(*record, *http.Request) error { return errNotFound }))
	r.MethodNotAllowed(s.handle("unmatched", func(x *record, req *http.Request) error {
		methods := allowed(r, req.URL.Path)
		if len(methods) == 0 { // chi calls this for every method it does not know, whatever the path
			return errNotFound
		}
		x.Header().Set("Allow", strings.Join(methods, ", "))
		return errMethodNotAllowed
	}))
	return r
}

// allowed lists the methods of a path, for the header Allow (RFC 9110, section 10.2.1).
func allowed(routes chi.Routes, path string) (methods []string) {
	for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
		if routes.Match(chi.NewRouteContext(), m, path) {
			methods = append(methods, m)
		}
	}
	return methods
}
