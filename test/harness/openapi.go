package harness

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// OpenAPI loads docs/openapi.yaml.
var OpenAPI = sync.OnceValues(func() (*openapi3.T, error) {
	for _, text := range []string{"text/javascript", "application/typescript"} {
		openapi3filter.RegisterBodyDecoder(text, openapi3filter.PlainBodyDecoder)
	}
	return openapi3.NewLoader().LoadFromFile(filepath.Join(Root, "docs", "openapi.yaml"))
})

// conforms checks a response of the public listener against docs/openapi.yaml. Without an operation there, it must be a
// problem document.
func conforms(method, path string, answer Answer) error {
	doc, err := OpenAPI()
	if err != nil {
		return err
	}
	path, _, _ = strings.Cut(path, "?")
	operation := &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(answer.Status, doc.Components.Responses["Problem"]))}
	if item := doc.Paths.Value(path); item != nil && item.GetOperation(method) != nil {
		operation = item.GetOperation(method)
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: &http.Request{Method: method}, Route: &routers.Route{Spec: doc, Operation: operation},
		},
		Status: answer.Status, Header: answer.Header, Body: io.NopCloser(strings.NewReader(answer.Body)),
	})
}
