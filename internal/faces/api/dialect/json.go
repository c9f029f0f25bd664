package dialect

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"
)

// marshal writes v as JSON that may stand in a page of HTML.
func marshal(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

var (
	errNotJSON = errors.New("the body is not JSON")
	errNUL     = errors.New("the body holds a text with the character U+0000, which cannot be kept")
)

// unmarshal reads the JSON of a request. Huma calls it twice: into an any, to
// check that against the schema, and into the type of the handler.
func unmarshal(data []byte, v any) error {
	if p, ok := v.(*any); ok {
		return unmarshalAny(data, p)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var whole any
	if err := dec.Decode(&whole); err != nil {
		return errNotJSON
	}
	data, err := json.Marshal(known(whole, reflect.TypeOf(v)))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return errors.New("a field has the wrong type")
	}
	return nil
}

// unmarshalAny reads any JSON. A null in it is as good as nothing.
func unmarshalAny(data []byte, p *any) error {
	if !utf8.Valid(data) || json.Unmarshal(data, p) != nil {
		return errNotJSON
	}
	if bytes.Contains(data, []byte(`\u0000`)) && nul(*p) {
		return errNUL
	}
	*p = withoutNulls(*p)
	return nil
}

// known takes the members of objects away that t has no field for.
// [json.Unmarshal] would take "LABEL" for "label", which nobody has checked.
func known(v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case []any:
		if t.Kind() == reflect.Slice || t.Kind() == reflect.Array {
			for i := range v {
				v[i] = known(v[i], t.Elem())
			}
		}
	case map[string]any:
		switch t.Kind() {
		case reflect.Map:
			for key, value := range v {
				v[key] = known(value, t.Elem())
			}
		case reflect.Struct:
			members := map[string]any{}
			for _, f := range reflect.VisibleFields(t) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if value, ok := v[name]; ok && name != "" {
					members[name] = known(value, f.Type)
				}
			}
			return members
		}
	}
	return v
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
