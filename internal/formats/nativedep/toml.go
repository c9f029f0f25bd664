package nativedep

import (
	"bytes"
	"iter"
	"net/url"
	"path"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// readTOML reads the lock files of Python that are TOML and have a table for each
// package: poetry.lock (documentation of Poetry, "poetry.lock"), uv.lock, pdm.lock
// and pylock.toml (PEP 751).
func readTOML(d *draft, data []byte) error {
	var p pythonPackage
	table, files := "", map[string][]string{} // of poetry before 1.5, all in one table
	var all []pythonPackage
	end := func() {
		if p.name != "" {
			all = append(all, p)
		}
		p = pythonPackage{}
	}
	versioned := false
	for st := range statements(data) {
		if st.table != "" {
			table = st.table
			if table == "package" || table == "packages" {
				end()
			}
			p.in(table)
			continue
		}
		switch table {
		case "":
			versioned = versioned || st.key == "version" || st.key == "lock-version"
		case "metadata":
			versioned = versioned || st.key == "lock-version" || st.key == "lock_version"
		case "metadata.files":
			files[st.key] = append(files[st.key], texts(st.value)...)
		case "package", "packages":
			p.field(st)
		case "package.source":
			p.source(st.key, text1(st.value))
		case "packages.wheels", "packages.sdist", "packages.archive":
			if st.key == "url" || st.key == "name" || st.key == "path" {
				p.files = append(p.files, text1(st.value))
			}
		}
	}
	end()
	for _, p := range all {
		p.files = append(p.files, files[p.name]...)
		switch {
		case p.own:
		case p.fetched:
			d.leave(notByRegistry, p.name)
		default:
			d.add(target.PyPI, p.name, p.version, entry{line: p.line, why: whyPython(p.files)})
		}
	}
	if !versioned && len(all) == 0 {
		return errNotOne
	}
	return nil
}

// A pythonPackage is one table of a lock file.
type pythonPackage struct {
	name, version string
	line          int
	files         []string // names or addresses of its archives
	own           bool     // a folder of the project
	fetched       bool     // from elsewhere than an index
}

// in reads the name of a table below that of the package.
func (p *pythonPackage) in(table string) {
	switch table {
	case "packages.vcs", "packages.archive":
		p.fetched = true
	case "packages.directory":
		p.own = true
	}
}

func (p *pythonPackage) field(st statement) {
	switch st.key {
	case "name":
		p.name, p.line = text1(st.value), st.line
	case "version":
		p.version = text1(st.value)
	case "files", "wheels", "sdist": // hashes and dates are texts too, and no file ends as they do
		p.files = append(p.files, texts(st.value)...)
	case "source":
		if m := firstKey.FindStringSubmatch(st.value); m != nil {
			p.source("type", m[1])
		}
	case "git", "url", "vcs", "archive", "hg", "svn":
		p.fetched = true
	case "path", "directory":
		p.own = true
	}
}

var firstKey = pattern.New(`^\{\s*([a-z]+)\s*=`)

// source reads where a package comes from, in the words of poetry and uv.
func (p *pythonPackage) source(key, value string) {
	if key != "type" {
		return
	}
	switch value {
	case "git", "url", "file", "path", "hg", "svn":
		p.fetched = true
	case "directory", "virtual", "editable", "workspace":
		p.own = true
	}
}

// whyPython says why a package of PyPI with these archives may hold native code,
// or nothing if all of its wheels are for any platform ("Binary distribution
// format" of the Python Packaging User Guide, "File name convention").
func whyPython(files []string) string {
	any, some := 0, 0
	for _, f := range files {
		if u, err := url.Parse(f); err == nil {
			f = u.Path
		}
		name, ok := strings.CutSuffix(strings.ToLower(path.Base(f)), ".whl")
		if !ok {
			continue
		}
		if tag := name[strings.LastIndexByte(name, '-')+1:]; tag == "any" {
			any++
		} else {
			some++
		}
	}
	switch {
	case some > 0:
		return "has wheels for single platforms"
	case any > 0:
		return ""
	case len(files) > 0:
		return "has no wheel, so that it is built when it is installed"
	}
	return saysNothing
}

const saysNothing = "may hold native code: the lock file does not name its archives"

// A statement is the head of a table, or a key with its value as it is written.
type statement struct {
	line       int
	table      string
	key, value string
}

// statements yields those of a TOML file (TOML 1.0.0), as far as programs write
// lock files: it knows strings, brackets and comments, and takes every byte once.
func statements(data []byte) iter.Seq[statement] {
	return func(yield func(statement) bool) {
		line := 1
		for len(data) > 0 {
			size := len(data)
			if i := statementEnd(data); i >= 0 {
				size = i
			}
			raw := data[:size]
			data = data[min(size+1, len(data)):]
			at := line
			line += bytes.Count(raw, []byte("\n")) + 1
			text := strings.TrimSpace(string(raw))
			st := statement{line: at}
			switch {
			case text == "" || text[0] == '#':
				continue
			case text[0] == '[':
				head, _, _ := strings.Cut(text, "#")
				st.table = strings.Trim(strings.TrimSpace(head), "[] ")
			default:
				key, value, ok := strings.Cut(text, "=")
				if !ok {
					continue
				}
				st.key, st.value = strings.Trim(strings.TrimSpace(key), `"'`), strings.TrimSpace(value)
			}
			if !yield(st) {
				return
			}
		}
	}
}

// statementEnd returns where the first line ends that is not inside a string or
// brackets, or -1.
func statementEnd(data []byte) int {
	depth := 0
	for i := 0; i < len(data); {
		switch c := data[i]; c {
		case '\n':
			if depth <= 0 {
				return i
			}
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '#':
			if end := bytes.IndexByte(data[i:], '\n'); end >= 0 {
				i += end
				continue
			}
			return -1
		case '"', '\'':
			i += stringSize(data[i:])
			continue
		}
		i++
	}
	return -1
}

// stringSize returns the size of the string at the beginning of data, with its
// quotes. One of a single line that is not closed ends with its line.
func stringSize(data []byte) int {
	quote := data[0]
	many := len(data) >= 3 && data[1] == quote && data[2] == quote
	i := 1
	if many {
		i = 3
	}
	for i < len(data) {
		switch {
		case quote == '"' && data[i] == '\\':
			i += 2
		case many && data[i] == quote && i+2 < len(data) && data[i+1] == quote && data[i+2] == quote:
			return i + 3
		case !many && data[i] == quote:
			return i + 1
		case !many && data[i] == '\n':
			return i
		default:
			i++
		}
	}
	return len(data)
}

// texts returns the strings in a value.
func texts(value string) []string {
	var out []string
	data := []byte(value)
	for i := 0; i < len(data); {
		switch data[i] {
		case '"', '\'':
			n := stringSize(data[i:])
			if n >= 2 && data[i+n-1] == data[i] {
				out = append(out, unescape(value[i:i+n]))
			}
			i += n
		case '#':
			end := bytes.IndexByte(data[i:], '\n')
			if end < 0 {
				return out
			}
			i += end
		default:
			i++
		}
	}
	return out
}

// text1 returns the first string in a value, or nothing.
func text1(value string) string {
	if all := texts(value); len(all) > 0 {
		return all[0]
	}
	return ""
}
