package rule

import (
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Decode decodes the YAML of a rule into v, a pointer to a struct, and wants
// all keys to be known there. Every start of the program waits for the
// built-in rules, so what they are written in is read here: maps and lists in
// block and flow style, scalars of one line. Everything else, and every
// mistake, is left to the library.
func Decode(data []byte, v any) error {
	if tree, ok := readPlain(data); ok && assign(reflect.ValueOf(v).Elem(), tree) {
		return nil
	}
	reflect.ValueOf(v).Elem().SetZero()
	return yaml.UnmarshalWithOptions(data, v, yaml.Strict())
}

// assign sets a struct to a map, as the library would. It is false if the two
// do not match in every way.
func assign(to reflect.Value, tree any) bool {
	m, ok := tree.(map[string]any)
	if !ok || to.Kind() != reflect.Struct {
		return false
	}
	left := len(m)
	for i := range to.NumField() {
		f := to.Type().Field(i)
		if f.Tag != "" || f.Anonymous {
			return false
		}
		value, ok := m[strings.ToLower(f.Name)]
		if !ok || !f.IsExported() {
			continue
		}
		if left--; !assignField(to.Field(i), value) {
			return false
		}
	}
	return left == 0
}

func assignField(to reflect.Value, value any) bool {
	switch v := value.(type) {
	case string:
		if to.Kind() == reflect.String {
			to.SetString(v)
			return true
		}
	case bool:
		if to.Kind() == reflect.Bool {
			to.SetBool(v)
			return true
		}
	case uint64:
		if to.Kind() == reflect.Int && v < 1<<31 {
			to.SetInt(int64(v))
			return true
		}
	case []any:
		if to.Kind() == reflect.Slice {
			list := reflect.MakeSlice(to.Type(), len(v), len(v))
			for i := range v {
				if !assignField(list.Index(i), v[i]) {
					return false
				}
			}
			to.Set(list)
			return true
		}
	}
	if to.Kind() == reflect.Interface && to.NumMethod() == 0 && value != nil {
		to.Set(reflect.ValueOf(value))
		return true
	}
	return false
}

// A plain reads YAML 1.2 of the kind that rules are written in (see chapters 7
// and 8 of its specification). What it is not sure of sets failed.
type plain struct {
	lines  []plainLine // none is empty
	at     int
	depth  int
	failed bool
}

type plainLine struct {
	indent int
	text   string // behind the indentation
}

const maxPlainDepth = 100

// readPlain returns what the library decodes into an any.
func readPlain(data []byte) (any, bool) {
	p := &plain{}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		for i := range len(line) {
			if line[i] < ' ' || line[i] > '~' {
				return nil, false
			}
		}
		text := strings.TrimLeft(line, " ")
		if text == "" || text[0] == '#' {
			continue
		}
		p.lines = append(p.lines, plainLine{len(line) - len(text), strings.TrimRight(text, " ")})
	}
	if len(p.lines) == 0 || p.lines[0].indent != 0 {
		return nil, false
	}
	v := p.block(0)
	return v, !p.failed && p.at == len(p.lines)
}

func (p *plain) fail() any {
	p.failed = true
	return nil
}

// here returns the line at hand if it is indented so.
func (p *plain) here(indent int) (string, bool) {
	if p.failed || p.at == len(p.lines) || p.lines[p.at].indent != indent {
		return "", false
	}
	return p.lines[p.at].text, true
}

// block reads the map or list that begins at the line at hand.
func (p *plain) block(indent int) any {
	if p.depth++; p.depth > maxPlainDepth {
		return p.fail()
	}
	defer func() { p.depth-- }()
	text, _ := p.here(indent)
	if strings.HasPrefix(text, "- ") {
		return p.blockList(indent)
	}
	return p.blockMap(indent)
}

func (p *plain) blockList(indent int) any {
	var out []any
	for {
		text, ok := p.here(indent)
		if !ok || !strings.HasPrefix(text, "- ") {
			break
		}
		item := strings.TrimLeft(text[2:], " ")
		_, _, isMap := plainKey(item)
		if isMap || strings.HasPrefix(item, "- ") {
			inner := indent + len(text) - len(item)
			p.lines[p.at] = plainLine{inner, item}
			out = append(out, p.block(inner))
			continue
		}
		out = append(out, p.value(item, indent))
	}
	return p.ended(out, indent)
}

func (p *plain) blockMap(indent int) any {
	out := map[string]any{}
	for {
		text, ok := p.here(indent)
		if !ok {
			break
		}
		key, rest, ok := plainKey(text)
		if _, twice := out[key]; !ok || twice {
			return p.fail()
		}
		if rest != "" && rest[0] != '#' {
			out[key] = p.value(rest, indent)
			continue
		}
		if p.at++; p.at == len(p.lines) {
			return p.fail()
		}
		switch next := p.lines[p.at]; {
		case next.indent > indent:
			out[key] = p.block(next.indent)
		case next.indent == indent && strings.HasPrefix(next.text, "- "):
			out[key] = p.blockList(indent)
		default:
			return p.fail()
		}
	}
	return p.ended(out, indent)
}

// ended returns what was read if nothing deeper follows.
func (p *plain) ended(v any, indent int) any {
	if p.failed || p.at < len(p.lines) && p.lines[p.at].indent > indent {
		return p.fail()
	}
	return v
}

// plainKey splits "key: rest", or reports that this is none.
func plainKey(text string) (key, rest string, ok bool) {
	i := 0
	for i < len(text) && (letter(text[i]) || i > 0 && (digit(text[i]) || text[i] == '-' || text[i] == '_')) {
		i++
	}
	if i == 0 || i == len(text) || text[i] != ':' || i+1 < len(text) && text[i+1] != ' ' || reserved(text[:i]) {
		return "", "", false
	}
	return text[:i], strings.TrimLeft(text[i+1:], " "), true
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// reserved reports whether a word means something else to some readers of YAML.
func reserved(word string) bool {
	switch strings.ToLower(word) {
	case "null", "true", "false", "nan", "inf":
		return true
	}
	return false
}

// value reads what stands behind a key or a dash on the line at hand, and goes
// on to the next line that is not part of it.
func (p *plain) value(text string, indent int) any {
	var v any
	switch text[0] {
	case '[', '{':
		f := flow{p: p, text: text, indent: indent}
		v = f.value()
		text = f.rest()
	case '"', '\'':
		v, text = p.quoted(text)
	default:
		if i := strings.Index(text, " #"); i >= 0 {
			text = strings.TrimRight(text[:i], " ")
		}
		if strings.Contains(text, ": ") || strings.HasSuffix(text, ":") {
			return p.fail()
		}
		v, text = p.scalar(text), ""
	}
	if text = strings.TrimLeft(text, " "); text != "" && text[0] != '#' {
		return p.fail()
	}
	p.at++
	if p.at < len(p.lines) && p.lines[p.at].indent > indent {
		return p.fail() // more of it
	}
	return v
}

// scalar reads a scalar without quotes.
func (p *plain) scalar(s string) any {
	if s == "" {
		return p.fail()
	}
	switch c := s[0]; {
	case s == "true" || s == "false":
		return s == "true"
	case reserved(s):
		return p.fail()
	case digit(c):
		return p.number(s)
	case letter(c) || c == '/' || c == '_' || c == '$' || c == '(' || c == '\\' || c == '<' && !strings.HasPrefix(s, "<<"):
		return s
	case c == '.' && len(s) > 1 && (s[1] == '/' || s[1] == '_' || letter(s[1]) && !reserved(s[1:])):
		return s
	}
	return p.fail()
}

func (p *plain) number(s string) any {
	if !strings.HasPrefix(s, "0b") && !strings.HasPrefix(s, "0B") && strings.ContainsAny(s, "abcdfABCDF") && strings.Trim(s, "0123456789abcdefABCDEF") == "" {
		return s // digits of a constant
	}
	whole, fraction, point := strings.Cut(s, ".")
	if len(whole) > 15 || len(fraction) > 15 || len(whole) > 1 && whole[0] == '0' || point && fraction == "" ||
		strings.Trim(whole, "0123456789") != "" || strings.Trim(fraction, "0123456789") != "" {
		return p.fail()
	}
	if !point {
		n, _ := strconv.ParseUint(s, 10, 64)
		return n
	}
	n, _ := strconv.ParseFloat(s, 64)
	return n
}

// quoted reads a scalar in quotes, and returns what stands behind it.
func (p *plain) quoted(s string) (any, string) {
	var b strings.Builder
	double := s[0] == '"'
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case !double && c == '\'' && i+1 < len(s) && s[i+1] == '\'':
			b.WriteByte(c)
			i++
		case c == s[0]:
			return b.String(), s[i+1:]
		case double && c == '\\':
			i++
			if i == len(s) {
				return p.fail(), ""
			}
			n := strings.IndexByte(`\"nt/`, s[i])
			if n < 0 {
				return p.fail(), ""
			}
			b.WriteByte("\\\"\n\t/"[n])
		default:
			b.WriteByte(c)
		}
	}
	return p.fail(), "" // it goes on on the next line
}

// A flow is a list in brackets or a map in braces.
type flow struct {
	p      *plain
	text   string // what is left of the line at hand
	indent int    // of the line on which it began
}

func (f *flow) rest() string { return f.text }

// skip goes to the next character, which may be on another line. Between two
// lines a scalar would go on, so that only the ends of tokens may stand there.
func (f *flow) skip() byte {
	for {
		f.text = strings.TrimLeft(f.text, " ")
		if f.text != "" && f.text[0] != '#' {
			return f.text[0]
		}
		if f.p.failed || f.p.at+1 >= len(f.p.lines) || f.p.lines[f.p.at+1].indent <= f.indent {
			f.p.failed = true
			return 0
		}
		f.p.at++
		f.text = f.p.lines[f.p.at].text
	}
}

func (f *flow) value() any {
	if f.p.depth++; f.p.depth > maxPlainDepth {
		return f.p.fail()
	}
	defer func() { f.p.depth-- }()
	switch c := f.text[0]; c {
	case '[':
		return f.list()
	case '{':
		return f.object()
	case '"', '\'':
		v, rest := f.p.quoted(f.text)
		f.text = rest
		return v
	}
	end := strings.IndexAny(f.text, ",[]{}")
	if end < 0 {
		return f.p.fail()
	}
	s := strings.TrimRight(f.text[:end], " ")
	if strings.Contains(strings.ReplaceAll(s, "://", ""), ":") || strings.Contains(s, " #") || strings.ContainsAny(s, `"'`) {
		return f.p.fail()
	}
	f.text = f.text[end:]
	return f.p.scalar(s)
}

func (f *flow) list() any {
	out := []any{}
	f.text = f.text[1:]
	if f.skip() == ']' {
		return f.p.fail() // nothing in it
	}
	for !f.p.failed {
		out = append(out, f.value())
		switch f.skip() {
		case ',':
			f.text = f.text[1:]
			if f.skip() == ']' {
				return f.p.fail()
			}
		case ']':
			f.text = f.text[1:]
			return out
		default:
			return f.p.fail()
		}
	}
	return nil
}

func (f *flow) object() any {
	out := map[string]any{}
	f.text = f.text[1:]
	for !f.p.failed {
		f.skip()
		key, rest, ok := plainKey(f.text)
		if _, twice := out[key]; !ok || twice || rest == "" || rest[0] == '#' {
			return f.p.fail()
		}
		f.text = rest
		out[key] = f.value()
		switch f.skip() {
		case ',':
			f.text = f.text[1:]
		case '}':
			f.text = f.text[1:]
			return out
		default:
			return f.p.fail()
		}
	}
	return nil
}
