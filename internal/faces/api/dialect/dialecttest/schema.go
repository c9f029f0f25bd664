package dialecttest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A schema is what a document says of a value (JSON Schema 2020-12), as far as
// our documents use it.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       types              `json:"type"`
	Format     string             `json:"format"`
	Enum       []any              `json:"enum"`
	Pattern    string             `json:"pattern"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Items      *schema            `json:"items"`
	AnyOf      []*schema          `json:"anyOf"`
	More       json.RawMessage    `json:"additionalProperties"`
	Minimum    *float64           `json:"minimum"`
	Maximum    *float64           `json:"maximum"`
	MinLength  *int               `json:"minLength"`
	MaxLength  *int               `json:"maxLength"`
	MinItems   *int               `json:"minItems"`
	MaxItems   *int               `json:"maxItems"`
	Examples   []any              `json:"examples"`
	Default    any                `json:"default"`

	// Description is for people, as are those below it.
	Description      string `json:"description"`
	Title            string `json:"title"`
	ContentEncoding  string `json:"contentEncoding"`
	ContentMediaType string `json:"contentMediaType"`
}

// types are those that a value may have; empty for any.
type types []string

// UnmarshalJSON reads one type or several.
func (t *types) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = types{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}

// resolve follows references.
func (d *document) resolve(s *schema) *schema {
	for s != nil && s.Ref != "" {
		s = d.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	if s == nil {
		return &schema{}
	}
	return s
}

// check says what is wrong with a value, or nothing.
func (d *document) check(at string, s *schema, v any) (wrong []string) {
	s = d.resolve(s)
	say := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	if len(s.Type) > 0 && !slices.ContainsFunc(s.Type, func(t string) bool { return isType(t, v) }) {
		say("%.100v is none of %v", v, s.Type)
		return wrong
	}
	if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(e any) bool { return reflect.DeepEqual(e, v) }) {
		say("%.100v is none of %v", v, s.Enum)
	}
	if len(s.AnyOf) > 0 && !slices.ContainsFunc(s.AnyOf, func(s *schema) bool { return len(d.check(at, s, v)) == 0 }) {
		say("%.100v is none of those that it could be", v)
	}
	switch v := v.(type) {
	case string:
		n := utf8.RuneCountInString(v)
		if s.MinLength != nil && n < *s.MinLength || s.MaxLength != nil && n > *s.MaxLength {
			say("%d letters", n)
		}
		if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
			say("%.100q does not match %s", v, s.Pattern)
		}
		if why := checkFormat(s.Format, v); why != nil {
			say("%.100q is no %s: %v", v, s.Format, why)
		}
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			say("%v is out of range", v)
		}
	case []any:
		if s.MinItems != nil && len(v) < *s.MinItems || s.MaxItems != nil && len(v) > *s.MaxItems {
			say("%d items", len(v))
		}
		for i, item := range v {
			if s.Items != nil {
				wrong = append(wrong, d.check(fmt.Sprintf("%s[%d]", at, i), s.Items, item)...)
			}
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				say("lacks %s", name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if p, ok := s.Properties[name]; ok {
				wrong = append(wrong, d.check(at+"."+name, p, v[name])...)
			} else if len(s.Properties) > 0 {
				say("has %s, which is not documented", name)
			}
		}
	}
	return wrong
}

func isType(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case string:
		return name == "string"
	case bool:
		return name == "boolean"
	case float64:
		return name == "number" || name == "integer" && v == math.Trunc(v)
	case []any:
		return name == "array"
	}
	return name == "object"
}

func checkFormat(format, v string) error {
	switch format {
	case "date-time":
		_, err := time.Parse(time.RFC3339, v)
		return err
	case "uri":
		u, err := url.Parse(v)
		if err == nil && u.Scheme == "" {
			return fmt.Errorf("no scheme")
		}
		return err
	}
	return nil
}

// strict reads a schema so that nothing in it is overlooked.
func strict(data []byte) error {
	var raw any
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	known := map[string]bool{}
	for f := range reflect.TypeFor[schema]().Fields() {
		known[f.Tag.Get("json")] = true
	}
	var walk func(at string, v any) error
	walk = func(at string, v any) error {
		s, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		for key, value := range s {
			if !known[key] {
				return fmt.Errorf("%s: the keyword %s is not checked by these tests", at, key)
			}
			switch value := value.(type) {
			case map[string]any:
				if key == "properties" {
					for name, p := range value {
						if err := walk(at+"."+name, p); err != nil {
							return err
						}
					}
				} else if key == "items" {
					if err := walk(at+"[]", value); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	return walk("schema", raw)
}
