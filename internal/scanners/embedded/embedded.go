// Package embedded finds programs and archives that are packed inside other
// files, and has them looked at as files of their own: compressed sections,
// overlays and resources of binaries, programs packed by UPX, base64 and its
// like in source text.
//
// To carry a program is no crime, and many well-known packages do it. What is
// reported above a remark is that the form serves to hide it.
package embedded

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/carve"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	packedProgram = rules.Get("embedded/packed-program")
	hiddenProgram = rules.Get("embedded/hidden-program")
	packedArchive = rules.Get("embedded/packed-archive")
)

// Scanner finds what is packed inside other files.
var Scanner = &scan.Scanner{
	Name:    "embedded",
	Doc:     "find programs and archives that are packed inside other files",
	Version: 1,
	Rules:   rules.Area("embedded"),
	Wants:   func(f *scan.File) bool { return f.About != nil || looks(f) != nothing },
	File:    file,
}

// A way is how a file is looked at.
type way int

const (
	nothing way = iota
	binary
	text
	blob
)

// Limits on files that are no binaries: source text of use is not larger, nor
// is what something may hide in.
const (
	maxText = 64 << 20
	maxBlob = 256 << 20
)

// sources are endings of files whose literals are looked at. Maps of sources
// and minified copies say the same again, but who hides something may do so in
// any of them.
var sources = []string{
	".js", ".cjs", ".mjs", ".jsx", ".ts", ".cts", ".mts", ".tsx", ".vue", ".svelte", ".json", ".html", ".htm", ".svg", ".xml", ".yml", ".yaml",
	".py", ".pyw", ".pyi", ".pth", ".ipynb", ".rb", ".php", ".lua", ".pl", ".sh", ".bash", ".ps1", ".psm1", ".bat", ".cmd", ".vbs", ".txt", ".in", ".cfg", ".inc", ".gyp", ".gypi",
}

func looks(f *scan.File) way {
	const least = 1 << 10
	if f.Size < least || f.Archive != "" {
		return nothing
	}
	if native.Identify(f.Head()).Native() {
		return binary
	}
	if bytes.IndexByte(f.Head(), 0) >= 0 || !utf8Like(f.Head()) {
		if f.Size > maxBlob {
			return nothing
		}
		return blob
	}
	if f.Size > maxText {
		return nothing
	}
	ext := strings.ToLower(path.Ext(f.Path))
	if slices.Contains(sources, ext) || ext == "" || bytes.HasPrefix(f.Head(), []byte("#!")) {
		return text
	}
	return nothing
}

// utf8Like reports whether the beginning of a file is text, the last character
// of which may be cut.
func utf8Like(head []byte) bool {
	for i := 0; i < utf8.UTFMax && len(head) > i; i++ {
		if utf8.Valid(head[:len(head)-i]) {
			return true
		}
	}
	return len(head) == 0
}

// An about is what this scanner knows of a file that it found.
type about struct {
	payload  carve.Payload
	outer    string // path of the file that it was found in
	purl     string
	inBinary bool
	posing   bool // the outer file is a picture or its like
}

func file(ctx context.Context, p *scan.Pass, f *scan.File) error {
	how := looks(f)
	a, ours := f.About.(*about)
	if how == nothing && !ours {
		return nil
	}
	data, err := f.Data()
	if err != nil {
		return err
	}
	if ours {
		if err := report(p, f, a, int64(len(data))); err != nil {
			return err
		}
	}
	var found []carve.Payload
	var notes []string
	switch how {
	case binary:
		opened, err := scan.Share(f, native.Open)
		if err != nil {
			return err
		}
		images, _ := opened.Images() // what could not be read is for the scanner of binaries to say
		found, notes = carve.Find(data, images)
	case text:
		found, notes = carve.Text(data)
	case blob:
		found, notes = carve.Blob(data)
	}
	for _, n := range notes {
		p.Note(f.Path, "%s", n)
	}
	for _, payload := range found {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		p.Embed(f, workspace.Embedded{
			Name:   payload.Name,
			Packed: payload.Packed(),
			About:  &about{payload, f.Path, f.Part.Label, how != text, how == blob && carve.Picture(data)},
			Open:   func(outer io.ReaderAt, size int64) (io.ReadCloser, error) { return payload.Open(outer, size) },
		})
	}
	return nil
}

// hidden reports whether the form of a program serves no purpose but to hide
// it. WebAssembly as text is what scripts carry, also those inside binaries.
func (a *about) hidden() bool {
	return a.posing || a.payload.Kind != carve.Wasm && a.payload.Odd(a.inBinary)
}

// report says of a file that was found what it is and how it was packed. Data
// that is neither program nor archive is shown to the scanners, and nothing to
// tell people of.
func report(p *scan.Pass, f *scan.File, a *about, size int64) error {
	kind := a.payload.Kind
	if f.Archive != "" && kind == carve.Data {
		kind = carve.Kind(f.Archive)
	}
	var r *rule.Rule
	what := "a program"
	switch {
	case a.payload.Kind.Program() && a.hidden():
		r = hiddenProgram
	case a.payload.Kind.Program():
		r = packedProgram
	case a.payload.Kind.Archive() || f.Archive != "":
		r, what = packedArchive, "an archive"
	default:
		return nil
	}
	sum, err := f.SHA256()
	if err != nil {
		return err
	}
	form := "as it is"
	if len(a.payload.Chain) > 0 {
		form = "as " + a.payload.Encoded()
	}
	// Sections and resources are named by whoever made the file.
	const longest = 200
	name, where := finding.Printable(a.payload.Name, longest), finding.Printable(a.payload.Place, longest)
	p.Report(r, finding.Finding{
		Title:       fmt.Sprintf("Carries %s in %s", what, where),
		Description: fmt.Sprintf("%s of %d bytes lies %s in %s, where it takes %d bytes. It was looked at as %s.", kind, size, form, where, a.payload.Packed(), finding.Printable(f.Path, 2*longest)),
		Location:    finding.Location{Path: a.outer, Line: a.payload.Line, Symbol: name},
		PURL:        a.purl,
		Anchor:      name,
		Evidence: []finding.Evidence{
			finding.NewEvidence("file", f.Path),
			finding.NewEvidence("format", string(kind)),
			finding.NewEvidence("encoding", a.payload.Encoded()),
			finding.NewEvidence("place", fmt.Sprintf("%s, offset 0x%x, %d bytes", where, a.payload.Range.Offset, a.payload.Packed())),
			finding.NewEvidence("size", fmt.Sprint(size)),
			finding.NewEvidence("sha256", sum),
		},
	})
	return nil
}
