package api

import (
	"net/http"
	"strings"

	"github.com/sethealth/tokenvend/client"
)

// file answers with a file of the browser module, for pages without a bundler, or with 304 to who has it
// already (RFC 9110, section 13.1.2).
func file(f client.File) handler {
	content := []byte(f.Content)
	return func(x *exchange, r *http.Request) error {
		h := x.Header()
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("ETag", f.ETag)
		if known := r.Header.Get("If-None-Match"); known == "*" || strings.Contains(known, f.ETag) {
			x.answer(http.StatusNotModified, nil)
			return nil
		}
		h.Set("Content-Type", f.ContentType)
		x.answer(http.StatusOK, content)
		return nil
	}
}
