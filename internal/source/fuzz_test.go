package source

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// The parsers below read what strangers publish. Each must come back without a
// panic, and with the promise that its function makes.

func FuzzPackument(f *testing.F) {
	f.Add([]byte(`{"dist-tags":{"latest":"1.0.0","x":1},"versions":{"1.0.0":{"license":{"type":"MIT"},"keywords":["a",1],"dist":{"tarball":"https://registry.example/a.tgz"}}},"time":{"1.0.0":"2024-05-06T07:08:09Z","unpublished":{}}}`), "^1.0.0")
	f.Add([]byte(`{"versions":{"1.0.0":{"licenses":[{"type":"MIT"},"X",[["deep"]]],"repository":{"url":"u","type":"git"},"optionalDependencies":[]}}}`), "*")
	f.Add([]byte(`{"versions":{"1":null,"":[]}}`), "1.x || >=2")
	f.Fuzz(func(t *testing.T, data []byte, spec string) {
		p, err := parsePackument(data, "")
		if err != nil {
			return
		}
		v, err := p.pick("x", spec)
		if err == nil && p.Versions[v] == nil {
			t.Fatalf("pick(%q) = %q, which is not there", spec, v)
		}
		p.published(v)
		if m, err := parseManifest(p.Versions[v]); err == nil {
			m.release("x", v)
			m.constraint().admits(platform{os: "linux", cpu: "x64", libc: "musl"})
			parseIntegrity(string(m.Dist.Integrity), string(m.Dist.Shasum))
		}
	})
}

func FuzzIntegrity(f *testing.F) {
	f.Add("sha512-cU8v/EGSrnH+HnxV2z0J7/blxH8gq7Xh2JFT6Aroax7UohdmiJJlxApMxtKfuI7z68NvvVcmR78k2LbT6efhRg== sha1-x?y", "86643fddde9bcd0ad91400b063003fa4b0312835")
	f.Fuzz(func(t *testing.T, integrity, shasum string) {
		c := parseIntegrity(integrity, shasum)
		for _, sum := range c.sums {
			if len(sum) != c.new().Size() || !c.matches(sum) {
				t.Fatalf("%s of %d bytes", c.algorithm, len(sum))
			}
		}
		if c.known() != (len(c.sums) > 0) {
			t.Fatalf("%+v", c)
		}
	})
}

func FuzzSimple(f *testing.F) {
	f.Add([]byte(`<base href="/x/"><a href="m-1.0.tar.gz#sha256=00" data-yanked="why">m</a>`), "text/html")
	f.Add([]byte(`{"meta":{"api-version":"1.0"},"files":[{"filename":"m-1.0-py3-none-any.whl","url":"../m.whl","hashes":{"sha256":"00"},"yanked":true,"size":3}]}`), "application/json")
	f.Add([]byte(`{"files":[{"filename":1,"url":"http://[","yanked":[],"size":"x"}]}`), "application/vnd.pypi.simple.v1+json")
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		files, err := parseSimple(data, mediaType, "https://registry.example/simple/m/")
		if err != nil {
			return
		}
		var dists []distFile
		for _, file := range files {
			if d, ok := parseDist(file, "m", parsePyVersion); ok {
				dists = append(dists, d)
			}
		}
		for _, word := range []string{"", "all", "host", "none"} {
			chosen, _, _ := chooseFiles(dists, choice{word: word})
			if len(dists) > 0 && len(chosen) == 0 && word != "host" && word != "none" {
				t.Fatalf("%q chooses nothing of %d files", word, len(dists))
			}
		}
	})
}

func FuzzDistName(f *testing.F) {
	for _, s := range []string{"m-1.0-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "m-1.0-1x-py3-none-any.whl", "m-1!2.0.post1.tar.gz", "m-1.0-cp-cp-macosx_99999999999_1_x.whl", "m-1.0-py3-t-win.whl"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		d, ok := parseDist(indexFile{name: name}, "m", parsePyVersion)
		if !ok || d.wheel == nil {
			return
		}
		if strings.ContainsAny(name, "/\\") {
			t.Fatalf("%q is a name", name)
		}
		d.wheel.families()
		d.wheel.fits(hostPlatform())
		newestPython([]distFile{d, d})
		chooseFiles([]distFile{d}, choice{list: []string{"linux-x64", "win"}})
	})
}

func FuzzPyVersion(f *testing.F) {
	for _, s := range []string{">=1.4,<2", "==1.*", "~=1.4.2", "===1.0", "!=1.0+l", ">1.0.post1", "<2.0rc1", "==1!2.0.dev3"} {
		f.Add(s, "1.4.2.post1")
	}
	f.Fuzz(func(t *testing.T, spec, version string) {
		v, err := parsePyVersion(version)
		if err != nil {
			return
		}
		if v.compare(v) != 0 || !v.startsWith(v) {
			t.Fatalf("%q does not equal itself", version)
		}
		s, err := parsePySpecifier(spec)
		if err != nil {
			return
		}
		s.holds(v)
		for _, c := range s {
			if c.op == "==" && !c.any && c.version.full != nil {
				if not := (pyClause{op: "!=", version: c.version, any: c.any}); c.holds(v) == not.holds(v) {
					t.Fatalf("%q and its opposite agree on %q", spec, version)
				}
			}
		}
	})
}

func FuzzSettings(f *testing.F) {
	f.Add("registry=https://registry.example/\n//registry.example/:_authToken=${T?}\nca[]=\"a\\nb\"\nca[]=c\n; x\nflag\n[s]\nk=v")
	f.Add("[global]\nindex-url = https://registry.example\nextra-index-url=\n  a\n\tb\n# c\n[install]\nx:y")
	f.Add("machine h login l password p\nmacdef m\nx\n\ndefault login a")
	f.Add(`key='"quoted"' ; 'x'`)
	f.Fuzz(func(t *testing.T, text string) {
		s := newNPMSettings(parseNpmrc(text))
		s.registry("@a/b")
		s.authorization("https://registry.example/a/b/c")
		parsePipConf(text)
		for host := range parseNetrc(text) {
			if host == "" {
				t.Fatal("credentials for every host")
			}
		}
	})
}

func FuzzMetadata(f *testing.F) {
	f.Add([]byte("Name: x\nVersion: 1\nSummary: a\n  b\n\nbody"))
	f.Add([]byte("Keywords: a b c\nLicense: UNKNOWN\nProject-URL: x\nClassifier: License :: OSI Approved\n nothing"))
	f.Add([]byte(strings.Repeat(" folded\n", 100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		h := parseCoreMetadata(data)
		r := h.release("x", "1")
		if len(r.Description) > 2*maxField+len(data) {
			t.Fatal("it grew")
		}
	})
}

func FuzzPlatform(f *testing.F) {
	for _, s := range []string{"linux-x64-musl", "x86_64", "windows/amd64", "darwin", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := parsePlatform(s)
		if ok && p == (platform{}) {
			t.Fatalf("%q is a platform of nothing", s)
		}
		if c, err := parseChoice(s); err == nil && c.word == "" && c.list == nil && s != "" {
			t.Fatalf("%q chooses nothing", s)
		}
	})
}

// The forms that people have given package.json's fields over the years.
func TestTolerantFields(t *testing.T) {
	for in, want := range map[string]string{
		`"MIT"`:            "MIT",
		`{"type":"MIT"}`:   "MIT",
		`{"name":"MIT"}`:   "MIT",
		`{"url":"u"}`:      "u",
		`["MIT","X"]`:      "MIT OR X",
		`[{"type":"MIT"}]`: "MIT",
		`{"type":"git","url":"https://git.test/x"}`: "https://git.test/x",
		`null`: "", `3`: "", `[]`: "", `[[["x"]]]`: "x", `[null,1]`: "",
	} {
		var k kinded
		if err := json.Unmarshal([]byte(in), &k); err != nil || string(k) != want {
			t.Errorf("%s = %q, %v; want %q", in, k, err, want)
		}
	}
	var m manifest
	err := json.Unmarshal([]byte(`{"name":7,"keywords":"one","os":["linux",3],"optionalDependencies":{"a":"1","b":{}},"deprecated":false,"dist":{"tarball":null}}`), &m)
	if err != nil || m.Name != "" || !slices.Equal(m.Keywords, []string{"one"}) || !slices.Equal(m.OS, []string{"linux"}) || len(m.OptionalDependencies) != 1 || m.Deprecated != "" {
		t.Errorf("%+v, %v", m, err)
	}
}

// A download goes on elsewhere when the cache takes no more of it.
func TestSinkLeavesCache(t *testing.T) {
	for _, size := range []int{100, maxMemory + 100} {
		dir := t.TempDir()
		c, err := openCache(dir)
		if err != nil {
			t.Fatal(err)
		}
		f := &fetcher{cache: c, cacheDir: dir, tempDir: t.TempDir()}
		s := &sink{f: f, hash: checksum{}.new()}
		want := bytes.Repeat([]byte("0123456789"), size/10)
		if _, err := s.Write(want[:size/2]); err != nil {
			t.Fatal(err)
		}
		s.file.Close() // no more room
		if s.file, err = c.root.Open(s.temp); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(want[size/2:]); err != nil {
			t.Fatal(err)
		}
		b, err := s.finish(checksum{algorithm: "sha512", sums: [][]byte{s.hash.Sum(nil)}}, s.hash.Sum(nil))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(b, 0, b.size))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
		}
		b.close()
		if left, _ := os.ReadDir(dir); len(left) > 0 || f.cacheNote() == "" || f.memory.Load() != 0 {
			t.Errorf("left %v, note %q, %d bytes of memory", left, f.cacheNote(), f.memory.Load())
		}
		c.root.Close()
	}
}

// The cache stays below its limit by dropping what was not used for longest.
func TestCacheTrim(t *testing.T) {
	c, err := openCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.root.Close()
	for _, name := range []string{"a", "b", "c"} {
		c.keepDocument("https://registry.example/"+name, "x", &document{Body: make([]byte, 1000)})
	}
	if c.document("https://registry.example/a", "x") == nil { // used last
		t.Fatal("a was not kept")
	}
	c.trim(2500)
	if c.document("https://registry.example/a", "x") == nil || c.document("https://registry.example/b", "x") != nil || c.document("https://registry.example/c", "x") == nil {
		t.Error("the wrong document went")
	}
}
