package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// marshal writes v as JSON that may stand in a page of HTML.
func marshal(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

var (
	errNotJSON = errors.New("the body is not JSON")
	errNUL     = errors.New("the body holds a text with the character U+0000, which cannot be kept")
)

// unmarshal reads the JSON of a request. In what is checked against a schema, a
// null is as good as nothing.
func unmarshal(data []byte, v any) error {
	if !utf8.Valid(data) {
		return errNotJSON
	}
	if err := json.Unmarshal(data, v); err != nil {
		if _, ok := v.(*any); ok {
			return errNotJSON
		}
		return errors.New("a field has the wrong type")
	}
	if p, ok := v.(*any); ok {
		if bytes.Contains(data, []byte(`\u0000`)) && nul(*p) {
			return errNUL
		}
		*p = withoutNulls(*p)
	}
	return nil
}

// withoutNulls takes the members of objects that are null away.
func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value == nil {
				delete(v, key)
				continue
			}
			v[key] = withoutNulls(value)
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}

// nul says whether any text of v holds the character that Postgres keeps in no
// text.
func nul(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case map[string]any:
		for key, value := range v {
			if nul(key) || nul(value) {
				return true
			}
		}
	case []any:
		for _, value := range v {
			if nul(value) {
				return true
			}
		}
	}
	return false
}
