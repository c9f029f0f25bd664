package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"

	"github.com/loupe-sec/loupe/internal/core/fault"
)

// setting is one field of a Config.
type setting struct {
	name, env, secret, usual, doc string
	index                         int
	kind                          reflect.Type
}

// settings are the fields, in their order.
var settings = func() (out []setting) {
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, setting{
			name: f.Tag.Get("name"), env: f.Tag.Get("env"), secret: f.Tag.Get("secret"), usual: f.Tag.Get("default"), doc: f.Tag.Get("doc"),
			index: i, kind: f.Type,
		})
	}
	return out
}()

// Flags adds the settings named to the flags of a command, or all of them. A
// secret can only be given by the environment or the file: arguments are seen by
// every user of a machine.
func Flags(fs *pflag.FlagSet, names ...string) {
	for _, s := range settings {
		if s.secret == "all" || len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		doc := s.doc + " [" + s.env + "]"
		switch s.kind {
		case reflect.TypeFor[bool]():
			fs.Bool(s.name, s.usual == "true", doc)
		case reflect.TypeFor[int]():
			n, _ := strconv.Atoi(s.usual)
			fs.Int(s.name, n, doc)
		case reflect.TypeFor[time.Duration]():
			d, _ := time.ParseDuration(s.usual)
			fs.Duration(s.name, d, doc)
		default:
			fs.String(s.name, s.usual, doc)
		}
	}
}

// maxFile bounds a file of settings, in bytes.
const maxFile = 1 << 20

// Load puts the settings together: from flags that were given, from the
// environment, from a file of YAML, which may be nil, and from the defaults. It
// refuses a setting that it does not know, and one that cannot be.
func Load(flags *pflag.FlagSet, env func(string) (string, bool), file io.Reader) (*Config, error) {
	written, err := read(file)
	if err != nil {
		return nil, err
	}
	c := &Config{}
	v := reflect.ValueOf(c).Elem()
	for _, s := range settings {
		text, from := s.usual, "the default"
		if t, ok := written[s.name]; ok {
			text, from = t, "the file of settings"
		}
		if t, ok := env(s.env); ok && t != "" {
			text, from = t, s.env
		}
		if f := flags.Lookup(s.name); f != nil && f.Changed {
			text, from = f.Value.String(), "--"+s.name
		}
		if err := set(v.Field(s.index), text); err != nil {
			return nil, fault.New(fault.Invalid, "%s: %v", from, err)
		}
	}
	return c, c.Check()
}

// read reads a file of settings: one mapping of names to values and lists.
func read(file io.Reader) (map[string]string, error) {
	out := map[string]string{}
	if file == nil {
		return out, nil
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Invalid, "the file of settings is not a mapping of YAML").Try("write one setting a line, as in listen: 127.0.0.1:8080").Because(err)
	}
	for name, value := range doc {
		if !slices.ContainsFunc(settings, func(s setting) bool { return s.name == name }) {
			return nil, fault.New(fault.Invalid, "the file of settings: there is no setting %q", name).Try("loupe config print shows them all")
		}
		if parts, ok := value.([]any); ok {
			var texts []string
			for _, p := range parts {
				texts = append(texts, fmt.Sprint(p))
			}
			value = strings.Join(texts, ",")
		}
		if value != nil {
			out[name] = fmt.Sprint(value)
		}
	}
	return out, nil
}

// set reads the text of a setting into its field.
func set(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case string:
		v.SetString(text)
	case []string:
		v.Set(reflect.ValueOf(list(text)))
	case bool:
		if text == "" {
			return nil
		}
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("neither true nor false")
		}
		v.SetBool(b)
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("not a whole number")
		}
		v.SetInt(int64(n))
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("not a time such as 30m or 1h")
		}
		v.SetInt(int64(d))
	}
	return nil
}

// Print writes the settings as a file that Load reads, with what each is for.
// Secrets are not among them.
func (c *Config) Print(w io.Writer) error {
	v := reflect.ValueOf(*c)
	for _, s := range settings {
		fmt.Fprintf(w, "# %s [%s]\n", s.doc, s.env)
		field := v.Field(s.index)
		switch {
		case s.secret == "all":
			state := "not set"
			if field.String() != "" {
				state = "set, and not shown"
			}
			fmt.Fprintf(w, "# %s: %s\n", s.name, state)
			continue
		case s.secret == "url" && field.String() != "":
			if u, err := url.Parse(field.String()); err == nil && u.User != nil {
				fmt.Fprintf(w, "# %s: %s (the password is not shown)\n", s.name, u.Redacted())
				continue
			}
		}
		text := field.Interface()
		if list, ok := text.([]string); ok {
			text = strings.Join(list, ",")
		}
		if d, ok := text.(time.Duration); ok {
			text = d.String()
		}
		line, err := yaml.Marshal(map[string]any{s.name: text})
		if err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}
