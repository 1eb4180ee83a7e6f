package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"
)

// maxBody is the largest request body, in bytes.
const maxBody = 4 << 10

// readMinLife reads the request body: nothing, or {"min_life": seconds} below the life of a new token.
func (s *server) readMinLife(x *exchange, r *http.Request) (time.Duration, error) {
	if r.Body == http.NoBody || r.ContentLength == 0 {
		return 0, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, r.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return 0, fmt.Errorf("%w: over %d bytes", errTooLarge, tooLarge.Limit)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: reading it: %w", errInvalidRequest, err)
	}
	if len(body) == 0 {
		return 0, nil
	}
	if !isJSON(r.Header["Content-Type"]) {
		return 0, errMediaType
	}
	seconds, err := parseMinLife(body)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errInvalidRequest, err)
	}
	if most := int64(s.TokenTTL / time.Second); seconds != 0 && seconds >= most {
		return 0, fmt.Errorf("%w: min_life is not below the %d s that a new token lives", errInvalidRequest, most)
	}
	return time.Duration(seconds) * time.Second, nil
}

func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	mediaType, _, err := mime.ParseMediaType(contentType[0])
	return err == nil && mediaType == "application/json"
}

// parseMinLife reads one JSON object with at most the member min_life, a whole number of seconds from 0.
// It goes by tokens because json.Unmarshal takes duplicate members and other spellings of a name.
func parseMinLife(body []byte) (seconds int64, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return 0, errors.New("not a JSON object")
	}
	for seen := false; d.More(); seen = true {
		name, err := d.Token()
		if err != nil {
			return 0, errors.New("not JSON")
		}
		if name != "min_life" || seen {
			return 0, errors.New("a member that is unknown or there twice")
		}
		value, _ := d.Token()
		number, isNumber := value.(json.Number)
		if seconds, err = number.Int64(); !isNumber || err != nil || seconds < 0 {
			return 0, errors.New("min_life is not a whole number of seconds")
		}
	}
	if _, err := d.Token(); err != nil {
		return 0, errors.New("not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, errors.New("more than one document")
	}
	return seconds, nil
}
