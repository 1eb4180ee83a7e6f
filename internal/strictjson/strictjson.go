// Package strictjson reads JSON from other parties, without the leniency of encoding/json: duplicate members and
// anything after the document are errors.
package strictjson

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

// ErrMalformed means that a text is not exactly one JSON document. It does not quote the text.
var ErrMalformed = errors.New("not one valid JSON document")

// Decode reads one document. Numbers are of the type [Number].
func Decode(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, ErrMalformed
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.SetNumberType(json.UnmarshalJSONNumber)
	var document any
	if d.Decode(&document) != nil {
		return nil, ErrMalformed
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, ErrMalformed
	}
	return document, nil
}

// Object is Decode for a document that must be an object.
func Object(text []byte) (map[string]any, error) {
	document, err := Decode(text)
	object, ok := document.(map[string]any)
	if err != nil || !ok {
		return nil, ErrMalformed
	}
	return object, nil
}

// Number is a number, digit by digit as it was written.
type Number = json.Number
