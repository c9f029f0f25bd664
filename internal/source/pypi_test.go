package source_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/osv-scalibr/clients/datasource"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/source"
)

// A dist is a file of a fake index.
type dist struct {
	name   string
	yanked any    // false, true or a reason
	hash   string // of sha256; right if empty, left out if "-"
	url    string // where it is; beside the page if empty
	size   int64  // that the index tells; 0 for none
}

func (d dist) body() []byte {
	if strings.HasSuffix(d.name, ".whl") {
		return zipped(map[string]string{"m/x.so": "\x7fELF" + d.name, "m-1.dist-info/METADATA": numMETADATA})
	}
	stem := strings.TrimSuffix(d.name, ".tar.gz")
	return tgz(map[string]string{stem + "/PKG-INFO": numMETADATA})
}

// index serves a project, as JSON to those who ask for it unless onlyHTML.
func (s *server) index(base, project string, onlyHTML bool, files ...dist) {
	var page strings.Builder
	page.WriteString("<!DOCTYPE html><html><head><base href=\"" + s.URL + base + "/files/\"></head><body>\n<a>no link</a>")
	var entries []object
	for _, f := range files {
		body := f.body()
		s.serve(base+"/files/"+url.PathEscape(f.name), "application/octet-stream", body)
		hash := f.hash
		if hash == "" {
			hash = hex256(body)
		}
		href, fragment := f.url, "#sha256="+hash
		hashes := object{"sha256": hash}
		if hash == "-" {
			fragment, hashes = "", object{}
		}
		jsonURL := href
		if href == "" {
			href, jsonURL = url.PathEscape(f.name), "../../files/"+url.PathEscape(f.name)
		}
		attribute := ""
		switch y := f.yanked.(type) {
		case string:
			attribute = ` data-yanked="` + html.EscapeString(y) + `"`
		case bool:
			if y {
				attribute = ` data-yanked=""`
			}
		}
		fmt.Fprintf(&page, "<A HREF='%s%s' data-requires-python='&gt;=3.9'%s>%s</a><br/>\n", href, fragment, attribute, f.name)
		entry := object{"filename": f.name, "url": jsonURL, "hashes": hashes, "yanked": f.yanked, "upload-time": "2024-05-06T07:08:09.123456Z"}
		if f.yanked == nil {
			entry["yanked"] = false
		}
		if f.size != 0 {
			entry["size"] = f.size
		}
		entries = append(entries, entry)
	}
	page.WriteString("</body></html>")
	s.on(base+"/simple/"+project+"/", func(w http.ResponseWriter, r *http.Request) {
		if onlyHTML || !strings.Contains(r.Header.Get("Accept"), "application/vnd.pypi.simple.v1+json") {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, page.String())
			return
		}
		w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
		w.Write(toJSON(object{"meta": object{"api-version": "1.1"}, "name": project, "files": entries}))
	})
}

func wheels(names ...string) []dist {
	var all []dist
	for _, n := range names {
		all = append(all, dist{name: n})
	}
	return all
}

func TestPyPI(t *testing.T) {
	for _, onlyHTML := range []bool{false, true} {
		t.Run(fmt.Sprint("onlyHTML=", onlyHTML), func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			wheel := dist{name: "Num_Py-1.0.post1-cp312-cp312-manylinux_2_28_x86_64.whl"}
			source := dist{name: "num-py-1.0.post1.tar.gz"}
			s.index("", "num-py", onlyHTML, source, wheel, dist{name: "num-py-1.0.post1.win32-py2.7.exe"}, dist{name: "num-py-1.0.post1-py2.7.egg"}, dist{name: "other-1.0.tar.gz"})
			t.Setenv("PIP_INDEX_URL", s.URL+"/simple/")
			o := mustOpen(t, "pypi:Num.Py")
			want := numRelease(
				inventory.Part{PURL: "pkg:pypi/num-py@1.0.post1", Path: wheel.name + "!", Filename: wheel.name, Digest: "sha256-" + hex256(wheel.body()), Size: int64(len(wheel.body())), Platform: "manylinux_2_28_x86_64"},
				inventory.Part{PURL: "pkg:pypi/num-py@1.0.post1", Path: source.name + "!", Filename: source.name, Digest: "sha256-" + hex256(source.body()), Size: int64(len(source.body()))},
			)
			if !onlyHTML {
				want.Published = time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)
			}
			if diff := cmp.Diff(want, o.Release); diff != "" {
				t.Errorf("release (-want +got):\n%s", diff)
			}
			if got := paths(t, o); !slices.Equal(got, []string{wheel.name, wheel.name + "!/m/x.so", wheel.name + "!/m-1.dist-info/METADATA", source.name, source.name + "!/num-py-1.0.post1/PKG-INFO"}) {
				t.Errorf("files = %q", got)
			}
			if got := noteTexts(o); got != "not looked at: files that are neither wheels nor sources: num-py-1.0.post1.win32-py2.7.exe, num-py-1.0.post1-py2.7.egg" {
				t.Errorf("notes = %q", got)
			}
			if !strings.HasPrefix(o.Digest, "sha256-") || o.Target.Version != "1.0.post1" {
				t.Errorf("digest = %q, target = %v", o.Digest, o.Target)
			}
		})
	}
}

func TestPyPIVersions(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.index("", "v", false,
		dist{name: "v-1.0.tar.gz"}, dist{name: "v-1.0.post1.tar.gz"}, dist{name: "v-1.4.tar.gz"}, dist{name: "v-1.5.tar.gz", yanked: "it\nbroke"}, dist{name: "v-1.5.1.tar.gz", yanked: true},
		dist{name: "v-2.0rc1.tar.gz"}, dist{name: "v-2.0.dev1.tar.gz"}, dist{name: "v-2.0.tar.gz"}, dist{name: "v-1.0+local.1.tar.gz"},
		dist{name: "v-3.0a1.tar.gz"}, dist{name: "v-3.0a2.dev1.tar.gz"}, dist{name: "v-0!0.9.tar.gz"}, dist{name: "v-2004d.tar.gz"})
	s.index("", "pre", false, dist{name: "pre-1.0a1.tar.gz"}, dist{name: "pre-1.0b1.tar.gz"}, dist{name: "pre-1.0.dev9.tar.gz"})
	s.index("", "bad", false, dist{name: "bad-1.0.tar.gz", yanked: true})
	t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
	for _, test := range []struct{ spec, want, yanked string }{
		{"v", "2.0", ""},
		{"v@1.0", "1.0", ""},
		{"v@1.0.0", "1.0", ""},
		{"v@==1.0", "1.0+local.1", ""}, // of a range the highest
		{"v@v2", "2.0", ""},
		{"v@1.5", "1.5", "it\nbroke"},
		{"v@==1.5.1", "1.5.1", "yanked"},
		{"v@1.0+local.1", "1.0+local.1", ""},
		{"v@2.0-rc.1", "2.0rc1", ""},
		{"v@>=1,<2", "1.4", ""},
		{"v@>=1, <1.6", "1.4", ""},
		{"v@<2.0", "1.4", ""},
		{"v@<2.0rc9", "1.4", ""},
		{"v@~=1.0", "1.4", ""},
		{"v@~=1.0.0", "1.0.post1", ""},
		{"v@==1.*", "1.4", ""},
		{"v@!=2.*", "1.4", ""},
		{"v@>1.0,<1.4", "2.0rc1", "impossible"},
		{"v@>=3.0a1", "3.0a2.dev1", ""},
		{"v@>2", "3.0a2.dev1", ""}, // nothing but pre-releases
		{"v@===1.0", "1.0", ""},
		{"v@<=1.0,!=1.0+local.1", "1.0", ""},
		{"v@<1.0", "0!0.9", ""},
		{"pre", "1.0b1", ""},
	} {
		t.Run(test.spec, func(t *testing.T) {
			o, err := open(t, "pypi:"+test.spec)
			if test.yanked == "impossible" { // 1.0.post1 is a post-release of 1.0, and not > 1.0
				oneSentence(t, err, fault.NotFound, "has no version in the range")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if o.Release.Version != test.want || o.Release.Yanked != test.yanked {
				t.Errorf("version %s, yanked %q; want %s, %q", o.Release.Version, o.Release.Yanked, test.want, test.yanked)
			}
			if noted := strings.Contains(noteTexts(o), "the version is yanked: "); noted != (test.yanked != "") {
				t.Errorf("notes = %v", o.Notes)
			}
		})
	}
	for _, test := range []struct {
		spec string
		kind fault.Kind
		says string
	}{
		{"v@9.9", fault.NotFound, `the Python package "v" has no version 9.9; name one of the versions that exist: 2.0, 1.4, 1.0.post1, 1.0+local.1, 1.0, …`},
		{"v@>=9", fault.NotFound, "has no version in the range >=9; name one"},
		{"v@newest", fault.Invalid, `"newest" is not a Python version; name one`},
		{"v@>=one", fault.Invalid, `">=one" is not a range of Python versions; write it like`},
		{"bad", fault.NotFound, "that could be taken are yanked; name one of them exactly"},
	} {
		t.Run(test.spec, func(t *testing.T) {
			_, err := open(t, "pypi:"+test.spec)
			oneSentence(t, err, test.kind, test.says)
		})
	}
}

func TestWheelChoice(t *testing.T) {
	many := wheels("m-1.0.zip", "m-1.0.tar.gz", "m-1.0-py3-none-any.whl",
		"m-1.0-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
		"m-1.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
		"m-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
		"m-1.0-cp313-cp313t-manylinux_2_28_x86_64.whl",
		"m-1.0-pp310-pypy310_pp73-manylinux_2_28_x86_64.whl",
		"m-1.0-cp37-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
		"m-1.0-cp38-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
		"m-1.0-cp312-cp312-musllinux_1_2_x86_64.whl",
		"m-1.0-cp312-abi3-musllinux_1_2_x86_64.whl",
		"m-1.0-cp310-abi3-macosx_11_0_arm64.whl",
		"m-1.0-cp39-cp39-macosx_11_0_arm64.whl",
		"m-1.0-cp313-cp313-macosx_10_12_universal2.whl",
		"m-1.0-pp310-pypy310_pp73-macosx_10_9_x86_64.whl",
		"m-1.0-py3-none-win32.whl",
		"m-1.0-1build-cp313-cp313-win_amd64.whl", "m-1.0-2build-cp313-cp313-win_amd64.whl",
		"m-1.0-pp310-pypy310_pp73-win_arm64.whl",
		"m-1.0-cp314-cp314t-musllinux_1_2_aarch64.whl",
		"m-1.0-cp313-cp313-pyodide_2025_0_wasm32.whl",
		"broken-name.whl", "m-1.0-cp313.whl")
	native := []string{
		"m-1.0-2build-cp313-cp313-win_amd64.whl",
		"m-1.0-cp310-abi3-macosx_11_0_arm64.whl",
		"m-1.0-cp312-cp312-musllinux_1_2_x86_64.whl",
		"m-1.0-cp313-cp313-macosx_10_12_universal2.whl",
		"m-1.0-cp313-cp313-manylinux_2_28_x86_64.whl",
		"m-1.0-cp313-cp313-pyodide_2025_0_wasm32.whl",
		"m-1.0-cp314-cp314t-musllinux_1_2_aarch64.whl",
		"m-1.0-cp38-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
		"m-1.0-pp310-pypy310_pp73-win_arm64.whl",
		"m-1.0-py3-none-win32.whl",
	}
	for _, test := range []struct {
		name, platform string
		files          []dist
		want           []string
		note           string
	}{
		{"default", "", many, slices.Concat([]string{"m-1.0-py3-none-any.whl"}, native, []string{"m-1.0.tar.gz"}), "10 more files of this version, for other Pythons"},
		{"all", "all", many, slices.Concat([]string{"m-1.0-py3-none-any.whl"}, native, []string{"m-1.0.tar.gz"}), "10 more files"},
		{"none", "none", many, []string{"m-1.0-py3-none-any.whl"}, "as chosen by --platform none: win_amd64, macosx_11_0_arm64"},
		{"none without a pure wheel", "none", wheels("m-1.0.tar.gz", "m-1.0-cp313-cp313-win32.whl"), []string{"m-1.0.tar.gz"}, "win32"},
		{"our words", "linux-arm64,win32-ia32", many, []string{"m-1.0-cp314-cp314t-musllinux_1_2_aarch64.whl", "m-1.0-cp38-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "m-1.0-py3-none-win32.whl"}, ""},
		{"our words with a C library", "linux-x64-musl", many, []string{"m-1.0-cp312-cp312-musllinux_1_2_x86_64.whl"}, ""},
		{"our words for a universal wheel", "darwin-x64", many, []string{"m-1.0-cp313-cp313-macosx_10_12_universal2.whl"}, ""},
		{"a part of the tag", "manylinux", many, []string{"m-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", "m-1.0-cp38-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"}, ""},
		{"nothing for it but the pure one", "linux-riscv64", many, []string{"m-1.0-py3-none-any.whl"}, "this release has no wheel for linux-riscv64, as chosen by --platform; looked at: m-1.0-py3-none-any.whl"},
		{"nothing for one of two", "win_amd64,android", many, []string{"m-1.0-2build-cp313-cp313-win_amd64.whl"}, "this release has no wheel for android, as"},
		{"any", "any", many, []string{"m-1.0-py3-none-any.whl"}, "wheels for other platforms"},
		{"a tag without the age", "manylinux_x86_64,any", many, []string{"m-1.0-py3-none-any.whl", "m-1.0-cp313-cp313-manylinux_2_28_x86_64.whl"}, ""},
		{"an age that the newest Python has not", "manylinux_2_17_x86_64,win_amd64", many, []string{"m-1.0-2build-cp313-cp313-win_amd64.whl", "m-1.0-cp313-cp313-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"}, ""},
		{"an older Python's alone", "manylinux_2_12_i686,manylinux2014_x86_64", wheels("m-1.0-cp313-cp313-manylinux_2_28_x86_64.whl", "m-1.0-cp311-cp311-manylinux2014_x86_64.whl", "m-1.0-cp312-cp312-manylinux2014_x86_64.whl", "m-1.0.tar.gz"), []string{"m-1.0-cp312-cp312-manylinux2014_x86_64.whl"}, "no wheel for manylinux_2_12_i686, as"},
		{"pure", "", wheels("m-1.0-py2.py3-none-any.whl"), []string{"m-1.0-py2.py3-none-any.whl"}, ""},
		{"two pure ones", "", wheels("m-1.0-py2-none-any.whl", "m-1.0-py3-none-any.whl"), []string{"m-1.0-py3-none-any.whl"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			s.index("", "m", false, test.files...)
			t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
			o := mustOpen(t, "pypi:m", func(r *source.Request) { r.Platform = test.platform })
			var got []string
			for _, p := range o.Release.Parts {
				got = append(got, p.Filename)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if !strings.Contains(noteTexts(o), test.note) {
				t.Errorf("notes = %q; want %q", noteTexts(o), test.note)
			}
		})
	}
	t.Run("host", func(t *testing.T) {
		isolate(t)
		s := newServer(t, "registry.example")
		s.index("", "m", false, many...)
		t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
		if o := mustOpen(t, "pypi:m", func(r *source.Request) { r.Platform = "host" }); len(o.Release.Parts) != 1 {
			t.Errorf("parts = %+v", o.Release.Parts)
		}
	})
	t.Run("nothing at all", func(t *testing.T) {
		isolate(t)
		s := newServer(t, "registry.example")
		s.index("", "m", false, wheels("m-1.0-cp313-cp313-win32.whl")...)
		t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
		_, err := open(t, "pypi:m", func(r *source.Request) { r.Platform = "linux-s390x" })
		oneSentence(t, err, fault.NotFound, "m 1.0 has no file for the platform linux-s390x; use --platform all, or one of those that it has: win32")
	})
}

func TestPyPICaps(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	files := []dist{{name: "m-1.0-cp313-cp313-win32.whl", size: 600 << 20}}
	for i := range 40 {
		files = append(files, dist{name: fmt.Sprintf("m-1.0-cp313-cp313-linux_arch%02d.whl", i), size: 1000})
	}
	s.index("", "m", false, files...)
	t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
	o := mustOpen(t, "pypi:m")
	if n := len(o.Release.Parts); n != 32 {
		t.Errorf("%d parts", n)
	}
	if got := noteTexts(o); !strings.Contains(got, "9 files beyond the caps of 32 and 500 MiB: m-1.0-cp313-cp313-linux_arch32.whl") || !strings.Contains(got, "win32.whl") {
		t.Errorf("notes = %q", got)
	}
}

func TestPipSettings(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+secret))
	withUser := func(u string) string { return strings.Replace(u, "//", "//me:"+secret+"@", 1) }
	for _, test := range []struct {
		name  string
		setup func(t *testing.T, home string, s *server)
		auth  string
	}{
		{"environment", func(t *testing.T, home string, s *server) { t.Setenv("PIP_INDEX_URL", s.URL+"/simple") }, ""},
		{"credentials in the URL", func(t *testing.T, home string, s *server) {
			t.Setenv("PIP_INDEX_URL", withUser(s.URL)+"/simple/")
		}, basic},
		{"netrc", func(t *testing.T, home string, s *server) {
			t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
			write(t, filepath.Join(home, ".netrc"), "default login you password no\nmacdef init\nmachine nothing\n\nmachine registry.example\n  login me # comment\n  password "+secret+"\n")
		}, basic},
		{"netrc elsewhere", func(t *testing.T, home string, s *server) {
			t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
			t.Setenv("NETRC", filepath.Join(home, "n"))
			write(t, filepath.Join(home, "n"), "machine registry.example login me password "+secret)
		}, basic},
		{"user", func(t *testing.T, home string, s *server) {
			write(t, filepath.Join(home, ".config/pip/pip.conf"), "# c\n[global]\nindex-url: "+s.URL+"/simple\ntimeout = 3\n")
		}, ""},
		{"user of old", func(t *testing.T, home string, s *server) {
			write(t, filepath.Join(home, ".pip/pip.conf"), "[install]\nindex_url = "+s.URL+"/simple\n")
		}, ""},
		{"command over global", func(t *testing.T, home string, s *server) {
			write(t, filepath.Join(home, ".config/pip/pip.conf"), "[install]\nindex-url="+s.URL+"/simple\n[global]\nindex-url=http://wrong.example:1/\n[list]\nindex-url=http://wrong.example:1/\n")
		}, ""},
		{"virtual environment over user", func(t *testing.T, home string, s *server) {
			write(t, filepath.Join(home, ".config/pip/pip.conf"), "[global]\nindex-url=http://wrong.example:1/\n")
			t.Setenv("VIRTUAL_ENV", filepath.Join(home, "venv"))
			write(t, filepath.Join(home, "venv/pip.conf"), "[global]\nindex-url="+s.URL+"/simple")
		}, ""},
		{"named file over virtual environment", func(t *testing.T, home string, s *server) {
			t.Setenv("VIRTUAL_ENV", filepath.Join(home, "venv"))
			write(t, filepath.Join(home, "venv/pip.conf"), "[global]\nindex-url=http://wrong.example:1/\n")
			t.Setenv("PIP_CONFIG_FILE", filepath.Join(home, "named"))
			write(t, filepath.Join(home, "named"), "[global]\nindex-url="+s.URL+"/simple")
		}, ""},
		{"system", func(t *testing.T, home string, s *server) {
			write(t, filepath.Join(home, "xdg/pip/pip.conf"), "[global]\nindex-url="+s.URL+"/simple")
		}, ""},
		{"extra index over lines", func(t *testing.T, home string, s *server) {
			write(t, filepath.Join(home, ".config/pip/pip.conf"), "[global]\nindex-url="+s.URL+"/none\nextra-index-url =\n    "+s.URL+"/also-none\n    # a comment\n    "+withUser(s.URL)+"/simple\n")
		}, basic},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := isolate(t)
			t.Setenv("PIP_CONFIG_FILE", "")
			s := newServer(t, "registry.example")
			s.index("", "m", true, dist{name: "m-1.0.tar.gz"})
			test.setup(t, home, s)
			mustOpen(t, "pypi:m")
			last := s.seen[len(s.seen)-1]
			if got := last.Header.Get("Authorization"); got != test.auth {
				t.Errorf("Authorization of %s = %q; want %q", last.URL, got, test.auth)
			}
			if len(s.seen) < 2 {
				t.Errorf("asked for %v", s.asked())
			}
		})
	}
}

// Credentials of the index do not go to the host of its files.
func TestPyPIFileHost(t *testing.T) {
	isolate(t)
	s, files := newServer(t, "registry.example"), newServer(t, "files.example")
	f := dist{name: "m-1.0.tar.gz"}
	files.serve("/packages/m-1.0.tar.gz", "", f.body())
	f.url = files.URL + "/packages/m-1.0.tar.gz"
	s.index("", "m", false, f)
	t.Setenv("PIP_INDEX_URL", strings.Replace(s.URL, "//", "//me:"+secret+"@", 1)+"/simple")
	mustOpen(t, "pypi:m")
	if len(files.seen) != 1 || files.seen[0].Header.Get("Authorization") != "" {
		t.Errorf("the file host saw %v", files.seen)
	}
	if s.seen[0].Header.Get("Authorization") == "" {
		t.Error("the index saw no credentials")
	}
}

func TestPyPIDefault(t *testing.T) {
	isolate(t)
	var want string
	spy := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		want = r.URL.Host
		return nil, http.ErrNotSupported
	})}
	c, err := datasource.NewPyPIRegistryAPIClient("", "", spy)
	if err != nil {
		t.Fatal(err)
	}
	c.GetIndex(t.Context(), "x")
	var asked []string
	_, err = open(t, "pypi:m", func(r *source.Request) {
		r.Egress = newClient(egress.Options{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			asked = append(asked, host)
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}})
	})
	oneSentence(t, err, fault.Unavailable, "cannot be reached: its name does not resolve")
	if want == "" || !slices.Equal(asked, []string{want}) {
		t.Errorf("asked for %v; want %s", asked, want)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestPyPIErrors(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(*testing.T, *server)
		kind  fault.Kind
		says  string
	}{
		{"no package", func(*testing.T, *server) {}, fault.NotFound, `there is no Python package "m" at registry.example:`},
		{"unauthorized", func(t *testing.T, s *server) {
			s.on("/simple/m/", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) })
		}, fault.Forbidden, "refuses with 401 Unauthorized; check the credentials for it in pip.conf or PIP_INDEX_URL"},
		{"broken index", func(t *testing.T, s *server) {
			s.on("/simple/m/", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
		}, fault.Unavailable, "answers 500"},
		{"not an index", func(t *testing.T, s *server) { s.serve("/simple/m/", "text/plain", []byte("hello")) }, fault.Corrupt, "is no Python index's answer"},
		{"broken JSON", func(t *testing.T, s *server) { s.serve("/simple/m/", "application/json", []byte("{")) }, fault.Corrupt, "is no Python index's answer"},
		{"another version of the API", func(t *testing.T, s *server) {
			s.serve("/simple/m/", "application/vnd.pypi.simple.v2+json", []byte(`{"meta":{"api-version":"2.0"}}`))
		}, fault.Corrupt, "is no Python index's answer"},
		{"no files", func(t *testing.T, s *server) { s.index("", "m", true) }, fault.NotFound, "has no files that can be installed"},
		{"wrong hash", func(t *testing.T, s *server) {
			s.index("", "m", false, dist{name: "m-1.0.tar.gz", hash: strings.Repeat("0", 64)})
		}, fault.Corrupt, "m-1.0.tar.gz is not what the registry promised: its sha256 should begin with 000000000000 but begins with"},
		{"missing file", func(t *testing.T, s *server) {
			s.index("", "m", false, dist{name: "m-1.0.tar.gz", url: s.URL + "/gone/m-1.0.tar.gz"})
		}, fault.NotFound, "the index lists m-1.0.tar.gz but registry.example"},
		{"strange URL", func(t *testing.T, s *server) {
			s.index("", "m", false, dist{name: "m-1.0.tar.gz", url: "file:///etc/passwd"})
		}, fault.Corrupt, "names no http or https URL"},
		{"broken wheel", func(t *testing.T, s *server) {
			name := "m-1.0-py3-none-any.whl"
			s.index("", "m", true, dist{name: name, hash: hex256([]byte("PK\x03\x04no"))})
			s.serve("/files/"+name, "", []byte("PK\x03\x04no"))
		}, fault.Corrupt, "the archive m-1.0-py3-none-any.whl is broken or empty"},
		{"no index allowed", func(t *testing.T, s *server) { t.Setenv("PIP_NO_INDEX", "1") }, fault.Unavailable, "forbid to ask an index (no-index); unset no-index"},
		{"setting is no URL", func(t *testing.T, s *server) { t.Setenv("PIP_EXTRA_INDEX_URL", "file:///x") }, fault.Invalid, "an index in pip's settings is not an http or https URL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			t.Setenv("PIP_INDEX_URL", strings.Replace(s.URL, "//", "//me:"+secret+"@", 1)+"/simple")
			test.setup(t, s)
			_, err := open(t, "pypi:m", func(r *source.Request) { r.Egress = newClient(egress.Options{Attempts: 2}) })
			oneSentence(t, err, test.kind, test.says)
		})
	}
}

func TestPyPINotVerified(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.index("", "m", true, dist{name: "m-1.0.tar.gz", hash: "-"})
	t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
	dir := t.TempDir()
	o := mustOpen(t, "pypi:m", func(r *source.Request) { r.CacheDir = dir })
	if o.Release.Parts[0].Digest != "" || noteTexts(o) != "not verified: the index gives no hash for it" {
		t.Errorf("%+v, notes %v", o.Release.Parts, o.Notes)
	}
	if len(paths(t, o)) != 2 {
		t.Error("the file cannot be read")
	}
}

func TestPyPIOffline(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.index("", "m", false, wheels("m-1.0-cp313-cp313-win32.whl", "m-1.0.tar.gz")...)
	t.Setenv("PIP_INDEX_URL", s.URL+"/simple")
	dir := t.TempDir()
	first := mustOpen(t, "pypi:m", func(r *source.Request) { r.CacheDir = dir })
	offline := mustOpen(t, "pypi:m", func(r *source.Request) { r.CacheDir = dir; r.Egress = newClient(egress.Options{Offline: true}) })
	if diff := cmp.Diff(first.Release, offline.Release); diff != "" || first.Digest != offline.Digest {
		t.Errorf("release offline (-online +offline):\n%s", diff)
	}
	_, err := open(t, "pypi:m", func(r *source.Request) { r.Egress = newClient(egress.Options{Offline: true}) })
	oneSentence(t, err, fault.Unavailable, "--offline is set")
}
