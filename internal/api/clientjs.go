package api

import (
	"net/http"
	"strings"

	"github.com/sethealth/tokenvend/client"
)

// file serves a file of the browser module, for pages without a bundler, or answers 304 if the caller already has it
// (RFC 9110, section 13.1.2).
func file(f client.File) handler {
	return func(x *record, r *http.Request) error {
		h := x.Header()
		h.Set("Cache-Control", "public, max-age=300, stale-while-revalidate=86400")
		h.Add("Vary", "Accept-Encoding")
		content, etag := f.Content, f.ETag
		if acceptsGzip(r.Header.Values("Accept-Encoding")) {
			h.Set("Content-Encoding", "gzip")
			content, etag = f.Gzip, f.GzipETag
		}
		h.Set("ETag", etag)
		if known := r.Header.Get("If-None-Match"); known == "*" || strings.Contains(known, etag) {
			h.Del("Content-Encoding")
			x.answer(http.StatusNotModified, nil)
			return nil
		}
		h.Set("Content-Type", f.ContentType)
		x.answer(http.StatusOK, []byte(content))
		return nil
	}
}

// acceptsGzip reports whether Accept-Encoding (RFC 9110, section 12.5.3) names gzip with a weight other than zero.
func acceptsGzip(lists []string) bool {
	for item := range strings.SplitSeq(strings.ToLower(strings.Join(lists, ",")), ",") {
		name, weight, _ := strings.Cut(item, ";")
		if strings.TrimSpace(name) == "gzip" {
			weight = strings.ReplaceAll(weight, " ", "")
			return !strings.HasPrefix(weight, "q=0") || strings.ContainsAny(weight[len("q=0"):], "123456789")
		}
	}
	return false
}
