package endurance_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

// versions are those that every package of the registry has. Their binaries
// differ in what they do, so that each is news after the one before.
var versions = []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"}

// lacking is a version that no package has.
const lacking = "9.9.9"

// A registry is an npm registry with as many packages as anybody asks for, made
// when they are. Their names are a word, a dash and a number.
type registry struct {
	*httptest.Server
	mu       sync.Mutex
	packages map[string]*published
	binaries int           // in each package
	slow     time.Duration // how long an answer takes, at most
}

type published struct {
	document []byte
	tarballs map[string][]byte // by version
}

var packageName = regexp.MustCompile(`^[a-z]+-\d+$`)

func newRegistry(t testing.TB, binaries int, slow time.Duration) *registry {
	t.Helper()
	r := &registry{packages: map[string]*published{}, binaries: binaries, slow: slow}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *registry) serve(w http.ResponseWriter, req *http.Request) {
	name, file, isFile := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/-/")
	if !packageName.MatchString(name) {
		http.NotFound(w, req)
		return
	}
	p, err := r.get(name)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.slow > 0 {
		time.Sleep(rand.N(r.slow))
	}
	if isFile {
		w.Write(p.tarballs[strings.TrimSuffix(file, ".tgz")])
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(p.document)
}

func (r *registry) get(name string) (*published, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.packages[name]; p != nil {
		return p, nil
	}
	p := &published{tarballs: map[string][]byte{}}
	list := map[string]any{}
	for i, version := range versions {
		data, err := newTarball(name, version, i, r.binaries)
		if err != nil {
			return nil, err
		}
		p.tarballs[version] = data
		sum := sha512.Sum512(data)
		list[version] = map[string]any{
			"name": name, "version": version,
			"dist": map[string]any{
				"tarball":   r.URL + "/" + name + "/-/" + version + ".tgz",
				"integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
			},
		}
	}
	var err error
	p.document, err = json.Marshal(map[string]any{
		"name": name, "dist-tags": map[string]any{"latest": versions[len(versions)-1]}, "versions": list,
	})
	r.packages[name] = p
	return p, err
}

// newTarball packs a package with some binaries. The number of the version says
// what they import.
func newTarball(name, version string, number, binaries int) ([]byte, error) {
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	add := func(file string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: "package/" + file, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	if err := add("package.json", fmt.Appendf(nil, `{"name": %q, "version": %q}`, name, version)); err != nil {
		return nil, err
	}
	for i := range binaries {
		data, err := synth.Build(binary(name, version, number, i, binaries > 1))
		if err != nil {
			return nil, err
		}
		if err := add(fmt.Sprintf("prebuilds/linux-%d/%s.node", i, name), data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// binary describes a small library, or one with as many texts and imports as
// those of bcrypt have.
func binary(name, version string, number, i int, large bool) synth.Description {
	d := synth.Description{
		Format: "elf", Libraries: []string{"libc.so.6"},
		Strings: []string{fmt.Sprintf("%s %s %d", name, version, i)},
	}
	for _, imp := range append([]string{"napi_module_register"}, [][]string{nil, {"connect", "send"}, {"execve"}, {"open", "unlink"}}[number%4]...) {
		d.Imports = append(d.Imports, synth.Import{Name: imp})
	}
	if !large {
		return d
	}
	for j := range 60 {
		d.Imports = append(d.Imports, synth.Import{Name: fmt.Sprintf("library_function_%d", j)})
		d.Exports = append(d.Exports, synth.Definition{Name: fmt.Sprintf("exported_function_%d", j), Calls: []synth.Call{{Name: fmt.Sprintf("library_function_%d", j)}}})
	}
	for j := range 200 {
		d.Strings = append(d.Strings, fmt.Sprintf("/usr/share/%s/message-%d: the operation %d failed", name, j, i))
	}
	return d
}
