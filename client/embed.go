// Package client holds the browser module and its types, for the server to serve. It knows nothing of HTTP.
package client

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

//go:embed client.js
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
}

// Module is the ES module, client.js.
func Module() File { return newFile(module, "text/javascript; charset=utf-8") }

// Types are the module's TypeScript declarations, client.d.ts.
func Types() File { return newFile(types, "application/typescript; charset=utf-8") }

func newFile(content, contentType string) File {
	sum := sha256.Sum256([]byte(content))
	return File{Content: content, ContentType: contentType, ETag: `"` + hex.EncodeToString(sum[:16]) + `"`}
}
