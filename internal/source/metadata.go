package source

import (
	"bytes"
	"cmp"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
)

// maxMetadata bounds a package.json, METADATA or PKG-INFO file, whose long
// description we do not read.
const maxMetadata = 4 << 20

// maxField bounds one field of those files.
const maxField = 64 << 10

// readBounded reads the beginning of a file of a workspace.
func readBounded(files fs.FS, name string) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxMetadata))
}

// npmRelease describes the package of the package.json in dir, or returns nil.
func npmRelease(files fs.FS, dir string) *inventory.Release {
	data, err := readBounded(files, path.Join(dir, "package.json"))
	if err != nil {
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	m, err := parseManifest(data)
	if err != nil {
		return nil
	}
	t, err := target.NewPackage(target.NPM, string(m.Name), strings.TrimSpace(string(m.Version)))
	if err != nil {
		return nil
	}
	return m.release(t.Name, t.Version)
}

// pythonRelease describes the distribution whose core metadata are in a file,
// or returns nil.
func pythonRelease(files fs.FS, name string) *inventory.Release {
	data, err := readBounded(files, name)
	if err != nil {
		return nil
	}
	h := parseCoreMetadata(data)
	t, err := target.NewPackage(target.PyPI, h.get("name"), h.get("version"))
	if err != nil {
		return nil
	}
	return h.release(t.Name, t.Version)
}

// coreMetadata holds the fields of a METADATA or PKG-INFO file by their names
// in small letters.
type coreMetadata map[string][]string

func (h coreMetadata) get(name string) string {
	if v := h[name]; len(v) > 0 && v[0] != "UNKNOWN" { // what old tools write for nothing
		return v[0]
	}
	return ""
}

// parseCoreMetadata reads the header of a file in the format of the "Core
// metadata specifications" of the Python Packaging User Guide: RFC 822 fields,
// folded over several lines, up to the first empty line. What is no field is
// passed over.
func parseCoreMetadata(data []byte) coreMetadata {
	h := coreMetadata{}
	name := ""
	var value strings.Builder
	keep := func() {
		if name != "" {
			h[name] = append(h[name], value.String())
		}
		name = ""
		value.Reset()
	}
	for line := range strings.Lines(strings.ToValidUTF8(string(data), "�")) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if value.Len() < maxField {
				value.WriteString("\n" + strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "|")))
			}
			continue
		}
		keep()
		if field, text, ok := strings.Cut(line, ":"); ok {
			name = strings.ToLower(strings.TrimSpace(field))
			value.WriteString(strings.TrimSpace(text))
		}
	}
	keep()
	return h
}

// release describes a distribution by its metadata.
func (h coreMetadata) release(name, version string) *inventory.Release {
	r := &inventory.Release{
		Ecosystem:   target.PyPI,
		Name:        name,
		Version:     version,
		Description: h.get("summary"),
		License:     cmp.Or(h.get("license-expression"), h.license()),
		Homepage:    h.get("home-page"),
	}
	for keyword := range strings.FieldsFuncSeq(h.get("keywords"), func(r rune) bool { return r == ',' || r == '\n' }) {
		if keyword = strings.TrimSpace(keyword); keyword != "" {
			r.Keywords = append(r.Keywords, keyword)
		}
	}
	if len(r.Keywords) == 1 && !strings.Contains(h.get("keywords"), ",") { // the custom before commas were
		r.Keywords = strings.Fields(r.Keywords[0])
	}
	for _, entry := range h["project-url"] {
		label, url, ok := strings.Cut(entry, ",")
		if url = strings.TrimSpace(url); !ok {
			continue
		}
		// "Well-known Project URLs" in the same guide: labels are compared
		// without punctuation and case.
		switch strings.Map(letters, label) {
		case "homepage":
			r.Homepage = cmp.Or(r.Homepage, url)
		case "source", "sourcecode", "repository", "github", "code", "gitlab", "vcs":
			r.Repository = cmp.Or(r.Repository, url)
		}
	}
	return r
}

func letters(c rune) rune {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case 'a' <= c && c <= 'z':
		return c
	}
	return -1
}

// license takes the License field, unless it is a whole text, else the names of
// licence classifiers.
func (h coreMetadata) license() string {
	if l := h.get("license"); l != "" && len(l) <= 100 && !strings.Contains(l, "\n") {
		return l
	}
	var all []string
	for _, c := range h["classifier"] {
		if rest, ok := strings.CutPrefix(c, "License ::"); ok {
			parts := strings.Split(rest, "::")
			if name := strings.TrimSpace(parts[len(parts)-1]); name != "OSI Approved" && len(all) < 32 {
				all = append(all, name)
			}
		}
	}
	if len(all) > 0 {
		return strings.Join(all, " OR ")
	}
	first, _, _ := strings.Cut(h.get("license"), "\n")
	return first
}
