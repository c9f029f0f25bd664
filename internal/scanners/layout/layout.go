// Package layout finds what lies in a package where nobody would expect it:
// binaries for another platform than their folder says, programs that pass for
// something else, archives inside the package.
package layout

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/rules"
)

var (
	wrongPlatform = rules.Get("layout/wrong-platform")
	posesAs       = rules.Get("layout/poses-as-data")
	noExtension   = rules.Get("layout/program-without-extension")
	hiddenBinary  = rules.Get("layout/hidden-binary")
	nestedArchive = rules.Get("layout/nested-archive")
	hiddenArchive = rules.Get("layout/hidden-archive")
)

// Scanner looks at names and places.
var Scanner = &scan.Scanner{
	Name:    "layout",
	Doc:     "find binaries and archives where nobody would expect them",
	Version: 1,
	Rules:   rules.Area("layout"),
	Needs:   []scan.Fact{inventory.Binaries},
	Wants:   func(f *scan.File) bool { return f.Archive != "" && f.Depth < 3 && !f.Embedded },
	File:    archive,
	Run:     binaries,
}

func binaries(_ context.Context, p *scan.Pass) error {
	seen := map[string]bool{} // the slices of a fat file lie in one place
	for _, b := range inventory.Binaries.All(p) {
		if b.Origin == inventory.FromEmbedded {
			continue // its name is ours
		}
		checkPlatform(p, b)
		if !seen[b.Path] {
			seen[b.Path] = true
			checkName(p, b)
		}
	}
	return nil
}

// dataExtensions are endings of files that nobody runs: a program that has one
// poses as something else.
var dataExtensions = []string{
	".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".webp", ".bmp", ".woff", ".woff2", ".ttf", ".mp3", ".mp4", ".wav",
	".txt", ".md", ".json", ".yml", ".yaml", ".xml", ".html", ".htm", ".css", ".csv", ".toml", ".ini", ".lock", ".log", ".map",
	".js", ".cjs", ".mjs", ".ts", ".jsx", ".tsx", ".py", ".pyc", ".rb", ".pl", ".sh", ".h", ".c", ".cc", ".cpp", ".rs", ".go", ".pdf", ".doc", ".docx",
}

func checkName(p *scan.Pass, b *inventory.Binary) {
	name := path.Base(b.Path)
	ext := strings.ToLower(path.Ext(name))
	what := fmt.Sprintf("%s %s for %s", b.Format, cmp.Or(b.Kind, "binary"), b.Arch)
	switch {
	case slices.Contains(dataExtensions, ext):
		report(p, posesAs, b, fmt.Sprintf("The file ends in %q but is a native binary (%s).", ext, what))
	case strings.HasPrefix(name, "."):
		report(p, hiddenBinary, b, fmt.Sprintf("The name of this native binary (%s) begins with a dot, so that listings leave it out.", what))
	case ext == "" && b.Kind == "executable":
		report(p, noExtension, b, fmt.Sprintf("The file has no extension and is a program (%s).", what))
	}
}

func report(p *scan.Pass, r *rule.Rule, b *inventory.Binary, text string) {
	p.Report(r, finding.Finding{
		Description: text,
		Location:    finding.Location{Path: b.Path},
		PURL:        b.Part,
		Evidence:    []finding.Evidence{finding.NewEvidence("file", b.Path), finding.NewEvidence("sha256", b.SHA256)},
	})
}

// checkPlatform compares a binary with what its folders and name say.
func checkPlatform(p *scan.Pass, b *inventory.Binary) {
	said := saidPlatform(b.Path)
	if b.Kind == "object" || said.fits(b) { // win64 is also a convention for calls, and names its objects
		return
	}
	p.Report(wrongPlatform, finding.Finding{
		Description: fmt.Sprintf("%q says that this is for %s, but it is %s for %s%s.", said.word, said, b.Format, b.Arch, onOS(b)),
		Location:    finding.Location{Path: b.Path},
		PURL:        b.Part,
		Evidence:    []finding.Evidence{finding.NewEvidence("file", b.Path), finding.NewEvidence("format", b.Format), finding.NewEvidence("architecture", b.Arch)},
		Anchor:      b.Arch,
	})
}

func onOS(b *inventory.Binary) string {
	if b.OS == "" {
		return ""
	}
	return " on " + b.OS
}

// archiveExtensions are what archives are called; others hide what they are.
var archiveExtensions = []string{
	".zip", ".jar", ".war", ".ear", ".aar", ".apk", ".ipa", ".whl", ".egg", ".nupkg", ".vsix", ".xpi", ".crx", ".docx", ".xlsx", ".pptx", ".odt", ".ods", ".epub", ".npz", ".mcz", ".pyz", ".pex", ".kra", ".sketch", ".pbf",
	".tar", ".tgz", ".gz", ".tbz", ".tbz2", ".bz2", ".txz", ".xz", ".tzst", ".zst", ".zstd", ".crate", ".gem", ".conda", ".svgz", ".lz4", ".br", ".7z", ".rar", ".cab", ".iso", ".dmg", ".pkg", ".msi", ".rpm", ".deb", ".udeb", ".ipk", ".cpio", ".a", ".lib", ".rlib", ".ar",
}

func archive(_ context.Context, p *scan.Pass, f *scan.File) error {
	name := path.Base(f.Path)
	ext := strings.ToLower(path.Ext(name))
	if f.Archive == "ar" || f.Depth == 0 && f.Part.Origin == inventory.WholeFile {
		return nil // static libraries are binaries; a whole file is what was asked for
	}
	r, text := nestedArchive, fmt.Sprintf("The package holds an archive (%s, %d bytes packed).", f.Archive, f.Size)
	switch {
	case strings.HasPrefix(name, "."):
		r, text = hiddenArchive, fmt.Sprintf("The name of this archive (%s) begins with a dot, so that listings leave it out.", f.Archive)
	case !slices.Contains(archiveExtensions, ext):
		r, text = hiddenArchive, fmt.Sprintf("The file is an archive (%s), which its name does not say.", f.Archive)
	}
	p.Report(r, finding.Finding{
		Description: text,
		Location:    finding.Location{Path: f.Path},
		PURL:        f.Part.Label,
		Evidence:    []finding.Evidence{finding.NewEvidence("archive", f.Archive)},
	})
	return nil
}
