package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"time"

	"github.com/sethealth/tokenvend/internal/sethealth"
	"github.com/sethealth/tokenvend/internal/strictjson"
)

// maxBody is the largest request body, in bytes.
const maxBody = 4 << 10

// readBody reads the request body, which is empty or a JSON object with min_life and rejected.
func (s *server) readBody(x *record, r *http.Request) (asked sethealth.Request, err error) {
	if r.Body == http.NoBody || r.ContentLength == 0 {
		return asked, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, r.Body, maxBody))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return asked, fmt.Errorf("%w: over %d bytes", errTooLarge, tooLarge.Limit)
	}
	if err != nil {
		return asked, fmt.Errorf("%w: reading it: %w", errInvalidRequest, err)
	}
	if len(body) == 0 {
		return asked, nil
	}
	if !isJSON(r.Header["Content-Type"]) {
		return asked, errMediaType
	}
	if asked, err = parseBody(body, s.TokenTTL); err != nil {
		return asked, fmt.Errorf("%w: %w", errInvalidRequest, err)
	}
	return asked, nil
}

func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	mediaType, _, err := mime.ParseMediaType(contentType[0])
	return err == nil && mediaType == "application/json"
}

var tokenID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// parseBody parses one JSON object: min_life in whole seconds, less than ttl, and rejected, a token id.
func parseBody(body []byte, ttl time.Duration) (asked sethealth.Request, err error) {
	members, err := strictjson.Object(body)
	if err != nil {
		return asked, err
	}
	for name, value := range members {
		switch name {
		case "min_life":
			number, isNumber := value.(strictjson.Number)
			seconds, err := number.Int64()
			if !isNumber || err != nil || seconds < 0 {
				return asked, errors.New("min_life is not a whole number of seconds")
			}
			if most := int64(ttl / time.Second); seconds != 0 && seconds >= most {
				return asked, fmt.Errorf("min_life is not below TOKEN_TTL, which is %d s", most)
			}
			asked.MinLife = time.Duration(seconds) * time.Second
		case "rejected":
			if asked.Rejected, _ = value.(string); !tokenID.MatchString(asked.Rejected) {
				return asked, errors.New("rejected is not the token_id of an answer")
			}
		default:
			return asked, errors.New("unknown member")
		}
	}
	return asked, nil
}
