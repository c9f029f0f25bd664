package install

import (
	"encoding/json"
	"io/fs"
	"net/mail"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/scan"
)

// linked finds the libraries that a build file links: "-lssl".
var linked = pattern.New(`["'\s]-l([A-Za-z][\w.+-]*)`)

// npmPurpose makes known what a package.json and the binding.gyp beside it say
// that the package is.
func npmPurpose(p *scan.Pass, f *scan.File, data []byte) {
	var m struct{ Name, Description, Keywords json.RawMessage }
	if json.Unmarshal(data, &m) != nil {
		return
	}
	out := inventory.Purpose{Folder: folderOf(f.Path), Name: textOf(m.Name), Description: textOf(m.Description), Keywords: textsOf(m.Keywords)}
	if build, err := fs.ReadFile(p.FS, path.Join(path.Dir(f.Path), "binding.gyp")); err == nil && len(build) <= maxManifest {
		for _, l := range linked.FindAllSubmatch(build, 50) {
			out.Links = append(out.Links, string(l[1]))
		}
	}
	inventory.Purposes.Add(p, out)
}

// metadata makes known what the metadata of a Python package says that it is
// (core metadata specification, "Summary" and "Keywords").
func metadata(p *scan.Pass, f *scan.File, data []byte) error {
	m, err := mail.ReadMessage(strings.NewReader(string(data) + "\n\n"))
	if err != nil {
		return nil // whoever reads the package for its name says so
	}
	keywords := strings.FieldsFunc(m.Header.Get("Keywords"), func(r rune) bool { return r == ',' || r == ' ' })
	folder := path.Dir(path.Dir(f.Path))
	if path.Base(f.Path) == "PKG-INFO" && !strings.HasSuffix(path.Dir(f.Path), ".egg-info") {
		folder = path.Dir(f.Path)
	}
	if folder == "." {
		folder = ""
	}
	inventory.Purposes.Add(p, inventory.Purpose{Folder: folder, Name: m.Header.Get("Name"), Description: m.Header.Get("Summary"), Keywords: slices.Clip(keywords)})
	return nil
}

// folderOf returns the folder of a file; empty for the root of the target.
func folderOf(file string) string {
	if dir := path.Dir(file); dir != "." {
		return dir
	}
	return ""
}

func textOf(raw json.RawMessage) string {
	var s string
	_ = json.Unmarshal(raw, &s) // any other type says nothing
	return s
}

func textsOf(raw json.RawMessage) []string {
	var list []any
	if json.Unmarshal(raw, &list) != nil {
		if s := textOf(raw); s != "" {
			return []string{s}
		}
	}
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
