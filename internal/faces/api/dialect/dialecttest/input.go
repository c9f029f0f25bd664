package dialecttest

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// valid returns a value that a schema allows: with everything, or only what is
// required.
func (d *document) valid(s *schema, everything bool) any {
	s = d.resolve(s)
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.Type) == 0:
		return nil
	}
	switch s.Type[0] {
	case "object":
		out := map[string]any{}
		for name, p := range s.Properties {
			if everything || slices.Contains(s.Required, name) {
				out[name] = d.valid(p, everything)
			}
		}
		return out
	case "array":
		out := []any{}
		if everything && s.Items != nil {
			out = append(out, d.valid(s.Items, true))
		}
		return out
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1.0
	case "boolean":
		return true
	case "null":
		return nil
	}
	if s.Format == "date-time" {
		return "2099-01-02T03:04:05.000Z"
	}
	n := 1
	if s.MinLength != nil {
		n = max(n, *s.MinLength)
	}
	return strings.Repeat("a", n)
}

// values returns what could stand where a schema is: at its bounds, beyond
// them, and of other kinds.
func (d *document) values(s *schema) []any {
	s = d.resolve(s)
	out := []any{
		nil, true, 0.0, -1.0, 1.5, 1e308, "", "a", " ", "\x00", "a\x00b", "é\u202e\U0001F600", "'\";--%_\\", "<script>", "../..", strings.Repeat("x", 5000),
		[]any{}, []any{nil}, map[string]any{}, map[string]any{"a": []any{1.0}},
	}
	out = append(append(out, s.Enum...), s.Examples...)
	for _, e := range s.Enum {
		if text, ok := e.(string); ok {
			out = append(out, strings.ToUpper(text), text+" ")
		}
	}
	for _, bound := range []*float64{s.Minimum, s.Maximum} {
		if bound != nil {
			out = append(out, *bound-1, *bound, *bound+1)
		}
	}
	for _, bound := range []*int{s.MinLength, s.MaxLength} {
		if bound != nil {
			for _, n := range []int{*bound - 1, *bound, *bound + 1} {
				out = append(out, strings.Repeat("a", max(0, n)), strings.Repeat("é", max(0, n)))
			}
		}
	}
	if s.MaxItems != nil {
		for _, n := range []int{*s.MaxItems, *s.MaxItems + 1} {
			out = append(out, slices.Repeat([]any{d.valid(s.Items, true)}, n))
		}
	}
	if s.Format == "date-time" {
		out = append(out, "2001-01-01T00:00:00Z", "2099-12-31T23:59:60Z", "2099-01-01", "9999-12-31T23:59:59+23:59", "0000-01-01T00:00:00Z")
	}
	return out
}

// bodies returns bodies that are allowed and bodies that are not, each a value
// of JSON. Members are changed one at a time; and then several, by chance.
func (d *document) bodies(s *schema, r *rand.Rand) []any {
	s = d.resolve(s)
	out := []any{d.valid(s, false), d.valid(s, true)}
	change := func(name string, f func(m map[string]any)) {
		if m, ok := d.valid(s, true).(map[string]any); ok {
			f(m)
			out = append(out, m)
		}
	}
	names := slices.Sorted(maps.Keys(s.Properties))
	for _, name := range names {
		change(name, func(m map[string]any) { delete(m, name) })
		change(name, func(m map[string]any) { m[strings.ToUpper(name)] = m[name]; delete(m, name) })
		for _, v := range d.values(s.Properties[name]) {
			change(name, func(m map[string]any) { m[name] = v })
		}
	}
	change("unknown", func(m map[string]any) { m["unknown"] = map[string]any{"a": 1.0} })
	for range 10 {
		change("chance", func(m map[string]any) {
			for _, name := range names {
				if list := d.values(s.Properties[name]); r.IntN(3) == 0 {
					m[name] = list[r.IntN(len(list))]
				}
			}
		})
	}
	return out
}

// rawBodies are bodies that are no objects, or no JSON.
var rawBodies = []string{
	"", " ", "null", "[]", "7", `"a"`, "{", "{}", "{}{}", "\xff", "\ufeff{}", "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, `{"a":1e999}`, `{"\u0000":1}`,
	strings.Repeat("[", 20_000), strings.Repeat(`{"a":`, 9_000) + "1" + strings.Repeat("}", 9_000), "a=b&c=d", "<a/>",
}

// segments are what could stand in a path, as it is written there.
var segments = []string{"nope", "%00", "a%00b", "%ff", "%2F", "..%2f..", "%20", "'--", "%25", "é", "*", "@", strings.Repeat("x", 3000), "-1", "9223372036854775808"}

// queries are what could stand in a query behind the sign of equality.
var queries = []string{"", "a", "%00", "%ff", "%zz", "a;b", "-1", "0", "1.5", "9223372036854775807", "9223372036854775808", "%25%5F", "'", "true", strings.Repeat("x", 3000)}
