// Package client holds the browser module and its types, for the server to serve. It knows nothing of HTTP.
package client

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
)

//go:embed client.js
var module []byte

//go:embed client.d.ts
var types []byte

// File is one file with what its HTTP answer needs, as it is and compressed. The entity tags (RFC 9110,
// section 8.8.3) are strong, quotes included; they change with the content alone, so that all replicas agree.
type File struct {
	ContentType    string
	Content, Gzip  []byte
	ETag, GzipETag string
}

// Module is the ES module, client.js.
func Module() File { return newFile(module, "text/javascript; charset=utf-8") }

// Types are the module's TypeScript declarations, client.d.ts.
func Types() File { return newFile(types, "application/typescript; charset=utf-8") }

func newFile(content []byte, contentType string) File {
	sum := sha256.Sum256(content)
	tag := hex.EncodeToString(sum[:16])
	var compressed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression) // a known level
	_, _ = w.Write(content)                                        // a buffer takes everything
	_ = w.Close()
	return File{
		ContentType: contentType, Content: content, Gzip: compressed.Bytes(),
		ETag: `"` + tag + `"`, GzipETag: `"` + tag + `-gzip"`,
	}
}
