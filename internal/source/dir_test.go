package source_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/source"
)

const padJSON = "\ufeff" + `{"name": "@pad/left", "version": "1.2.3", "description": "Pads", "keywords": "pad",
	"license": {"type": "MIT", "url": "https://x.test"}, "homepage": ["odd"], "repository": "github:pad/left"}`

const numMETADATA = `Metadata-Version: 2.1
Name: Num_Py
Version: 1.0.post1
Summary: Numbers
 and more
Keywords: numbers, arrays
Home-page: UNKNOWN
Project-URL: Source Code, https://git.test/num
Project-URL: Home Page, https://num.test
License: a long text
        | of many lines
Classifier: License :: OSI Approved :: BSD License
Classifier: Topic :: Software Development

Name: not-this
`

func padRelease(parts ...inventory.Part) *inventory.Release {
	return &inventory.Release{Ecosystem: target.NPM, Name: "@pad/left", Version: "1.2.3", Description: "Pads",
		Keywords: []string{"pad"}, License: "MIT", Repository: "github:pad/left", Parts: parts}
}

func numRelease(parts ...inventory.Part) *inventory.Release {
	return &inventory.Release{Ecosystem: target.PyPI, Name: "num-py", Version: "1.0.post1", Description: "Numbers\nand more",
		Keywords: []string{"numbers", "arrays"}, License: "BSD License", Homepage: "https://num.test", Repository: "https://git.test/num", Parts: parts}
}

func TestPath(t *testing.T) {
	elf := "\x7fELF" + strings.Repeat("\x00", 60)
	packed := string(tgz(map[string]string{"package/package.json": padJSON, "package/prebuilds/a.node": elf}))
	typed := string(tgz(map[string]string{"left/package.json": padJSON}))
	wheel := string(zipped(map[string]string{"num/a.so": elf, "num_py-1.0.dist-info/METADATA": numMETADATA, "num_py-1.0.dist-info/RECORD": ""}))
	sdist := string(tgz(map[string]string{"num_py-1.0/PKG-INFO": numMETADATA, "num_py-1.0/setup.py": ""}))
	part := func(purl, path, name, content string) inventory.Part {
		return inventory.Part{PURL: purl, Path: path, Filename: name, Digest: "sha256-" + hex256([]byte(content)), Size: int64(len(content))}
	}
	const pad, num = "pkg:npm/%40pad/left@1.2.3", "pkg:pypi/num-py@1.0.post1"
	for _, test := range []struct {
		name    string
		files   map[string]string // below the folder of the test
		target  string
		release *inventory.Release
		paths   []string
		digest  string
	}{
		{"folder", map[string]string{"d/a.txt": "a", "d/.git/config": "c", "d/.git/objects/ab": "o"}, "d", nil, []string{".git/config", "a.txt"}, ""},
		{"npm package", map[string]string{"d/package.json": padJSON}, "d", padRelease(), []string{"package.json"}, ""},
		{"project without a version", map[string]string{"d/package.json": `{"name": "app", "private": true}`}, "d",
			&inventory.Release{Ecosystem: target.NPM, Name: "app"}, []string{"package.json"}, ""},
		{"package.json of nothing", map[string]string{"d/package.json": `["name"]`}, "d", nil, []string{"package.json"}, ""},
		{"hostile name", map[string]string{"d/package.json": `{"name": "../../x", "version": "1.0.0"}`}, "d", nil, []string{"package.json"}, ""},
		{"source distribution", map[string]string{"d/PKG-INFO": numMETADATA}, "d", numRelease(), []string{"PKG-INFO"}, ""},
		{"unpacked wheel", map[string]string{"d/x.dist-info/METADATA": numMETADATA}, "d", numRelease(), []string{"x.dist-info/METADATA"}, ""},
		{"site-packages", map[string]string{"d/x.dist-info/METADATA": numMETADATA, "d/y.dist-info/METADATA": numMETADATA}, "d", nil,
			[]string{"x.dist-info/METADATA", "y.dist-info/METADATA"}, ""},
		{"single file", map[string]string{"a.so": elf}, "a.so", nil, []string{"a.so"}, ""},
		{"empty file", map[string]string{"empty": ""}, "empty", nil, []string{"empty"}, ""},
		{"npm tarball", map[string]string{"left-1.2.3.tgz": packed}, "left-1.2.3.tgz", padRelease(part(pad, "", "left-1.2.3.tgz", packed)),
			[]string{"package.json", "prebuilds/a.node"}, "sha256-" + hex256([]byte(packed))},
		{"npm tarball by another name", map[string]string{"download": packed}, "download", padRelease(part(pad, "", "download", packed)),
			[]string{"package.json", "prebuilds/a.node"}, "sha256-" + hex256([]byte(packed))},
		{"npm tarball with another folder", map[string]string{"left.tgz": typed}, "left.tgz", padRelease(part(pad, "", "left.tgz", typed)),
			[]string{"package.json"}, "sha256-" + hex256([]byte(typed))},
		{"repository with a package.json", map[string]string{"left.tar.gz": typed}, "left.tar.gz", padRelease(part(pad, "left.tar.gz!", "left.tar.gz", typed)),
			[]string{"left.tar.gz", "left.tar.gz!/left/package.json"}, "sha256-" + hex256([]byte(typed))},
		{"wheel", map[string]string{"n.whl": wheel}, "n.whl", numRelease(part(num, "", "n.whl", wheel)),
			[]string{"num/a.so", "num_py-1.0.dist-info/METADATA", "num_py-1.0.dist-info/RECORD"}, "sha256-" + hex256([]byte(wheel))},
		{"packed source distribution", map[string]string{"n.tar.gz": sdist}, "n.tar.gz", numRelease(part(num, "n.tar.gz!", "n.tar.gz", sdist)),
			[]string{"n.tar.gz", "n.tar.gz!/num_py-1.0/PKG-INFO", "n.tar.gz!/num_py-1.0/setup.py"}, "sha256-" + hex256([]byte(sdist))},
		{"archive of anything", map[string]string{"a.zip": string(zipped(map[string]string{"x/y": "z"}))}, "a.zip", nil,
			[]string{"a.zip", "a.zip!/x/y"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range test.files {
				write(t, filepath.Join(dir, name), content)
			}
			o := mustOpenPath(t, filepath.Join(dir, test.target))
			if diff := cmp.Diff(test.release, o.Release); diff != "" {
				t.Errorf("release (-want +got):\n%s", diff)
			}
			if got := paths(t, o); !slices.Equal(got, test.paths) {
				t.Errorf("files = %q; want %q", got, test.paths)
			}
			if o.Digest != test.digest {
				t.Errorf("digest = %s; want %s", o.Digest, test.digest)
			}
			o.Workspace.Walk(t.Context(), func(e workspace.Entry) error {
				if o.Release != nil && len(o.Release.Parts) > 0 && e.Part.Label != o.Release.PURL() {
					t.Errorf("%s belongs to %q", e.Path, e.Part.Label)
				}
				return nil
			})
		})
	}
}

func mustOpenPath(t *testing.T, name string) *source.Opened {
	t.Helper()
	o, err := source.Open(t.Context(), source.Request{Target: target.Target{Kind: target.Path, Name: name}, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func TestPathErrors(t *testing.T) {
	dir := t.TempDir()
	whole := string(tgz(map[string]string{"package/package.json": padJSON, "package/long": strings.Repeat("0123456789abcdef", 1000), "package/z": "z"}))
	for name, content := range map[string]string{
		"page.tgz": "<html>not found</html>", "cut.tgz": whole[:len(whole)-20], "head.tgz": whole[:30],
		"cut.zip": string(zipped(map[string]string{"a": strings.Repeat("a", 99)})[:60]), "empty.whl": "",
	} {
		write(t, filepath.Join(dir, name), content)
	}
	for _, test := range []struct {
		name string
		kind fault.Kind
		says string
	}{
		{"missing", fault.NotFound, "there is no file or folder"},
		{"missing/below", fault.NotFound, "check the path, or write npm:NAME or pypi:NAME"},
		{"page.tgz", fault.Corrupt, `"page.tgz" is named like an archive but cannot be read as one; get it again`},
		{"empty.whl", fault.Corrupt, "is named like an archive"},
		{"cut.tgz", fault.Corrupt, "the archive cut.tgz is broken or empty (the data ends early); get it again"},
		{"head.tgz", fault.Corrupt, "the archive head.tgz is broken or empty"},
		{"cut.zip", fault.Corrupt, "cut.zip"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := source.Open(t.Context(), source.Request{Target: target.Target{Kind: target.Path, Name: filepath.Join(dir, test.name)}})
			oneSentence(t, err, test.kind, test.says)
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := source.Open(ctx, source.Request{Target: target.Target{Kind: target.Path, Name: filepath.Join(dir, "cut.zip")}})
		oneSentence(t, err, fault.Unavailable, "cut.zip", "was cancelled; try again")
	})
	t.Run("a link to itself", func(t *testing.T) {
		name := filepath.Join(dir, "loop")
		if err := os.Symlink("loop", name); err != nil {
			t.Skip("no symbolic links here:", err)
		}
		_, err := source.Open(t.Context(), source.Request{Target: target.Target{Kind: target.Path, Name: name}})
		oneSentence(t, err, fault.Unavailable, "is a link that leads back to itself")
	})
	t.Run("a device", func(t *testing.T) {
		if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
			t.Skip("no such device here")
		}
		_, err := source.Open(t.Context(), source.Request{Target: target.Target{Kind: target.Path, Name: os.DevNull}})
		oneSentence(t, err, fault.Unavailable, "is neither a file nor a folder")
	})
}

// A limit that cuts an archive short is no damage: what was read stays.
func TestPathLimit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bomb.tgz")
	write(t, name, string(tgz(map[string]string{"a": "small", "b": strings.Repeat("\x00", 1<<20), "c": "x"})))
	o, err := source.Open(t.Context(), source.Request{
		Target: target.Target{Kind: target.Path, Name: name}, TempDir: t.TempDir(),
		Limits: workspace.Limits{Bytes: 100 << 10},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got := paths(t, o); !slices.Contains(got, "bomb.tgz!/a") || len(o.Workspace.Notes()) == 0 {
		t.Errorf("files = %v, notes = %v", got, o.Workspace.Notes())
	}
}

// Links to the target are followed, links in it are not.
func TestPathLinks(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "real", "a"), "a")
	write(t, filepath.Join(dir, "outside"), "secret")
	for to, link := range map[string]string{"real": "link", "outside": "filelink", "../outside": "real/escape"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	if got := paths(t, mustOpenPath(t, filepath.Join(dir, "link"))); !slices.Equal(got, []string{"a"}) {
		t.Errorf("files = %v", got)
	}
	if got := paths(t, mustOpenPath(t, filepath.Join(dir, "filelink"))); !slices.Equal(got, []string{"outside"}) {
		t.Errorf("files = %v", got)
	}
}

func TestOpenTakesNothingElse(t *testing.T) {
	_, err := source.Open(t.Context(), source.Request{Target: target.Target{Kind: target.Host, Name: "https://x.test"}})
	oneSentence(t, err, fault.Invalid, "there is no way to get https://x.test")
	for _, s := range source.All {
		if s.Name == "" || s.Doc == "" {
			t.Errorf("a source without a name or a description: %+v", s)
		}
	}
}
