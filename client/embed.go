// Package client holds the browser module and its types, for the server to serve. It knows nothing of HTTP.
package client

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

//go:generate ./build.sh

//go:embed client.min.js
var module string

//go:embed client.d.ts
var types string

// File is one file with what its HTTP answer needs.
type File struct {
	Content     string
	ContentType string
	// ETag is a strong entity tag (RFC 9110, section 8.8.3), quotes included. It changes with the
	// content alone, so that all replicas agree on it.
	ETag string
	// Gzip is the content compressed, a representation of its own with a tag of its own.
	Gzip, GzipETag string
}

// Module is the ES module, client.js, minified.
func Module() File { return newFile(module, "text/javascript; charset=utf-8") }

// Types are the module's TypeScript declarations, client.d.ts.
func Types() File { return newFile(types, "application/typescript; charset=utf-8") }

func newFile(content, contentType string) File {
	sum := sha256.Sum256([]byte(content))
	tag := hex.EncodeToString(sum[:16])
	return File{
		Content: content, ContentType: contentType, ETag: `"` + tag + `"`,
		Gzip: compress(content), GzipETag: `"` + tag + `-gzip"`,
	}
}

func compress(content string) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // fails for an unknown level alone
	_, _ = w.Write([]byte(content))                       // a buffer never fails
	_ = w.Close()
	return b.String()
}
