package source_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/source"
)

// secret is a credential that no error and no note may repeat.
const secret = "hunter2"

// isolate hides this machine's own settings from a test and returns its home.
func isolate(t *testing.T) string {
	t.Helper()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "npm_config_") || strings.HasPrefix(name, "PIP_") || strings.HasSuffix(lower, "_proxy") {
			t.Setenv(name, "")
		}
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home)
	t.Setenv("PREFIX", filepath.Join(home, "prefix"))
	t.Setenv("PATH", filepath.Join(home, "bin"))
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_CONFIG_DIRS", filepath.Join(home, "xdg"))
	t.Setenv("VIRTUAL_ENV", "")
	t.Setenv("NETRC", "")
	t.Setenv("PIP_CONFIG_FILE", os.DevNull)
	return home
}

// write makes a file with all its folders.
func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newClient returns a client that finds every name on this machine and does
// not wait long for anything.
func newClient(opts egress.Options) *egress.Client {
	opts.Backoff = time.Millisecond
	if opts.Resolve == nil {
		opts.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
	}
	return egress.New(opts)
}

// open gets a target with default settings.
func open(t *testing.T, name string, change ...func(*source.Request)) (*source.Opened, error) {
	t.Helper()
	tgt, err := target.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	req := source.Request{Target: tgt, Egress: newClient(egress.Options{}), TempDir: t.TempDir()}
	for _, c := range change {
		c(&req)
	}
	o, err := source.Open(t.Context(), req)
	if err == nil {
		t.Cleanup(func() { o.Close() })
	}
	return o, err
}

func mustOpen(t *testing.T, name string, change ...func(*source.Request)) *source.Opened {
	t.Helper()
	o, err := open(t, name, change...)
	if err != nil {
		t.Fatalf("Open(%s): %v (%v)", name, err, errors.Unwrap(err))
	}
	return o
}

// paths lists the files of a workspace.
func paths(t *testing.T, o *source.Opened) []string {
	t.Helper()
	var all []string
	if err := o.Workspace.Walk(t.Context(), func(e workspace.Entry) error {
		all = append(all, e.Path)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// noteTexts joins the notes of an opened target.
func noteTexts(o *source.Opened) string {
	var all []string
	for _, n := range o.Notes {
		all = append(all, n.Text)
	}
	return strings.Join(all, "\n")
}

// oneSentence checks an error as a user would see it: its kind, what it says,
// that it says what to do, and that it keeps secrets.
func oneSentence(t *testing.T, err error, kind fault.Kind, contains ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	got, text := fault.Of(err)
	if got != kind {
		t.Errorf("kind = %v; want %v (%v)", got, kind, err)
	}
	for _, c := range contains {
		if !strings.Contains(text, c) {
			t.Errorf("error = %q; want %q in it", text, c)
		}
	}
	if strings.ContainsAny(text, "\n") || strings.HasSuffix(text, ".") || strings.Count(text, "; ") != 1 {
		t.Errorf("error = %q; want one sentence that says what to do", text)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), secret) {
			t.Errorf("a secret leaks: %v", e)
		}
	}
}

// A server is a fake registry: answers by path, and what it was asked.
type server struct {
	URL string // under the name registry.example

	mu      sync.Mutex
	answers map[string]http.HandlerFunc // by escaped path
	seen    []*http.Request
}

func newServer(t *testing.T, name string) *server {
	t.Helper()
	s := &server{answers: map[string]http.HandlerFunc{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.URL = strings.Replace(h.URL, "127.0.0.1", name, 1)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.seen = append(s.seen, r)
	answer := s.answers[strings.ToLower(r.URL.EscapedPath())]
	s.mu.Unlock()
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	answer(w, r)
}

// on sets the answer to requests for a path.
func (s *server) on(path string, answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[strings.ToLower(path)] = answer
}

func (s *server) serve(path, mediaType string, body []byte) {
	s.on(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Write(body)
	})
}

// asked lists the paths that were asked for.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.seen {
		all = append(all, r.URL.EscapedPath())
	}
	return all
}

// tgz packs files, sorted by name.
func tgz(files map[string]string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg})
		w.Write([]byte(files[name]))
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

func zipped(files map[string]string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, _ := w.Create(name)
		f.Write([]byte(files[name]))
	}
	w.Close()
	return b.Bytes()
}

func sri512(data []byte) string {
	sum := sha512.Sum512(data)
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func hex1(data []byte) string {
	sum := sha1.Sum(data)
	return hex.EncodeToString(sum[:])
}

func hex256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

type object = map[string]any

func toJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// An npmPackage is what a fake npm registry has under one name.
type npmPackage struct {
	name     string
	tags     object
	versions map[string]object // manifests
}

// publish adds versions of a package to a fake npm registry below base, a path
// like "" or "/npm". A manifest without "dist" gets a tarball of its own.
func (s *server) publish(base string, p npmPackage) {
	versions := object{}
	times := object{}
	for v, m := range p.versions {
		m["name"], m["version"] = p.name, v
		if m["dist"] == nil {
			body := tgz(map[string]string{"package/package.json": string(toJSON(m)), "package/index.js": "// " + v})
			m["dist"] = s.tarball(base, p.name, v, body)
		}
		versions[v] = m
		times[v] = "2024-05-06T07:08:09.000Z"
	}
	escaped := base + "/" + strings.ReplaceAll(p.name, "/", "%2f")
	s.on(escaped, func(w http.ResponseWriter, r *http.Request) {
		doc := object{"name": p.name, "dist-tags": p.tags, "versions": versions}
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.Header.Get("Accept"), "install-v1") {
			w.Header().Set("Content-Type", "application/vnd.npm.install-v1+json")
			short := object{}
			for v, m := range p.versions {
				short[v] = object{"name": p.name, "version": v, "dist": m["dist"], "deprecated": m["deprecated"],
					"optionalDependencies": m["optionalDependencies"], "os": m["os"], "cpu": m["cpu"]}
			}
			doc["versions"] = short
		} else {
			doc["time"] = times
		}
		w.Write(toJSON(doc))
	})
	for v, m := range p.versions {
		s.serve(escaped+"/"+v, "application/json", toJSON(m))
	}
}

// tarball serves a file where npm registries have it and returns its "dist".
func (s *server) tarball(base, name, version string, body []byte) object {
	short := name[strings.LastIndexByte(name, '/')+1:]
	path := fmt.Sprintf("%s/%s/-/%s-%s.tgz", base, name, short, version)
	s.serve(path, "application/octet-stream", body)
	return object{"tarball": s.URL + path, "integrity": sri512(body), "shasum": hex1(body)}
}
