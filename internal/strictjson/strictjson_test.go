package strictjson_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sethealth/tokenvend/internal/strictjson"
)

func TestOnlyOneWholeDocumentIsRead(t *testing.T) {
	for text, want := range map[string]any{
		`{"a":{"b":[1,true,null,"x"]}}`: map[string]any{"a": map[string]any{"b": []any{strictjson.Number("1"), true, nil, "x"}}},
		" null\n":                       nil,
		`12345678901234567890`:          strictjson.Number("12345678901234567890"),
		`1.50`:                          strictjson.Number("1.50"),
	} {
		got, err := strictjson.Decode([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for name, text := range map[string]string{
		"nothing": "", "an incomplete document": `{"a":`, "two documents": `{}{}`, "text after it": `{} x`, "a member twice": `{"a":1,"a":1}`,
		"a member twice, deeper": `[{"a":{"b":1,"b":2}}]`, "invalid UTF-8": "\"\xff\"", "a byte order mark": "\ufeff{}", "a trailing comma": `{"a":1,}`,
	} {
		_, err := strictjson.Decode([]byte(text))
		require.ErrorIs(t, err, strictjson.ErrMalformed, name)
	}
}

func TestObjectRefusesOtherValues(t *testing.T) {
	got, err := strictjson.Object([]byte(`{"a":"b"}`))
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"a": "b"}, got)
	for _, text := range []string{`null`, `[]`, `"a"`, `1`, `{`} {
		_, err := strictjson.Object([]byte(text))
		require.ErrorIs(t, err, strictjson.ErrMalformed, text)
	}
}
