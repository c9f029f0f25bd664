package report

import (
	"io"
	"slices"
)

// A DiffFormat writes a diff in one way.
type DiffFormat struct {
	Name      string
	Doc       string // a phrase for the help text
	MediaType string
	Ext       string // with its dot
	Write     func(w io.Writer, d *Diff, o Options) error
}

// DiffFormats lists every way to write a diff, the default first.
var DiffFormats = []DiffFormat{
	{Name: "table", Doc: "for people, on a terminal", MediaType: "text/plain; charset=utf-8", Ext: ".txt", Write: writeDiffTable},
	{Name: "json", Doc: "everything, as " + DiffSchema, MediaType: "application/json", Ext: ".json", Write: func(w io.Writer, d *Diff, _ Options) error { return writeJSON(w, d) }},
	{Name: "markdown", Doc: "for comments and job summaries", MediaType: "text/markdown; charset=utf-8", Ext: ".md", Write: writeDiffMarkdown},
}

// FindDiff returns the format of a name, as in --format NAME.
func FindDiff(name string) (DiffFormat, bool) {
	i := slices.IndexFunc(DiffFormats, func(f DiffFormat) bool { return f.Name == name })
	if i < 0 {
		return DiffFormat{}, false
	}
	return DiffFormats[i], true
}
