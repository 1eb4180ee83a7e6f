package harness

import (
	"encoding/json"
	"fmt"
	"mime"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// OpenAPI is docs/openapi.yaml.
var OpenAPI = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile(filepath.Join(Root, "docs", "openapi.yaml"))
})

// conforms holds an answer of the public listener to docs/openapi.yaml.
func conforms(method, path string, answer Answer) error {
	doc, err := OpenAPI()
	if err != nil {
		return err
	}
	path, _, _ = strings.Cut(path, "?")
	problem := doc.Components.Responses["Problem"]
	response := problem
	if item := doc.Paths.Value(path); item != nil {
		if method == "HEAD" { // the answer to GET without its body
			return nil
		}
		if operation := item.GetOperation(method); operation != nil {
			if response = operation.Responses.Value(strconv.Itoa(answer.Status)); response == nil {
				response = operation.Responses.Default()
			}
		}
	}
	for name, header := range response.Value.Headers {
		if header.Value.Required && answer.Header.Get(name) == "" {
			return fmt.Errorf("%s %s: %d: no header %s", method, path, answer.Status, name)
		}
	}
	mediaType, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if len(response.Value.Content) == 0 && answer.Body == "" {
		return nil
	}
	content := response.Value.Content[mediaType]
	if content == nil {
		return fmt.Errorf("%s %s: %d: content type %q", method, path, answer.Status, mediaType)
	}
	var value any = answer.Body
	if strings.HasSuffix(mediaType, "json") {
		if err := json.Unmarshal([]byte(answer.Body), &value); err != nil {
			return err
		}
	}
	if err := content.Schema.Value.VisitJSON(value); err != nil {
		return fmt.Errorf("%s %s: %d: %w", method, path, answer.Status, err)
	}
	return nil
}
