package source_test

import (
	"bytes"
	"compress/gzip"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/andybalholm/brotli"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/source"
)

// A releases host serves files by path over https and remembers what it was
// asked. Its certificate is for 127.0.0.1 and example.com.
type releases struct {
	*httptest.Server
	port  string
	mu    sync.Mutex
	files map[string][]byte
	moved map[string]string // redirects
	asked []string          // host and path
}

func newReleases(t *testing.T) *releases {
	r := &releases{files: map[string][]byte{}, moved: map[string]string{}}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.asked = append(r.asked, req.Host+req.URL.Path)
		if to := r.moved[req.URL.Path]; to != "" {
			http.Redirect(w, req, to, http.StatusFound)
		} else if body, ok := r.files[req.URL.Path]; ok {
			w.Write(body)
		} else {
			http.NotFound(w, req)
		}
	}))
	r.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that goes away in the middle is no news
	r.StartTLS()
	t.Cleanup(r.Close)
	r.port = r.URL[strings.LastIndexByte(r.URL, ':')+1:]
	return r
}

// client trusts the certificate of the host and finds it on this machine.
func (r *releases) client(t *testing.T, opts egress.Options) *egress.Client {
	c := newClient(opts)
	if err := c.TrustCertificates(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})); err != nil {
		t.Fatal(err)
	}
	return c
}

// preGyp is a package whose add-on node-pre-gyp fetches from a host.
func preGyp(host string) npmPackage {
	return npmPackage{"addon", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {
		"main": "index.js", "scripts": object{"install": "node-pre-gyp install"}, "dependencies": object{"@mapbox/node-pre-gyp": "^1.0.0"},
		"binary": object{"module_name": "addon", "module_path": "lib/napi-v{napi_build_version}", "host": host, "remote_path": "v{version}",
			"package_name": "{platform}-{arch}-{libc}-{napi_build_version}.tar.gz", "napi_versions": []int{3}},
	}}}
}

// cached is a package of which install-artifact-from-github fetches a file.
func cached(host string, hashes object) npmPackage {
	return npmPackage{"addon", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {
		"scripts": object{"install": "install-from-cache --artifact a.node"}, "dependencies": object{"install-artifact-from-github": "^1.8.0"},
		"repository": object{"type": "git", "url": "https://" + host + "/o/addon.git"}, "artifactHashes": hashes,
	}}}
}

func brotlied(data string) []byte {
	var b bytes.Buffer
	w := brotli.NewWriterLevel(&b, brotli.BestSpeed)
	io.WriteString(w, data)
	w.Close()
	return b.Bytes()
}

func gzipped(data string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(data))
	w.Close()
	return b.Bytes()
}

// fetching opens a package and what it would download.
func fetching(t *testing.T, r *releases, p npmPackage, change ...func(*source.Request)) *source.Opened {
	t.Helper()
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", p)
	t.Setenv("npm_config_registry", s.URL)
	return mustOpen(t, "npm:addon", append([]func(*source.Request){func(req *source.Request) {
		req.Egress = r.client(t, egress.Options{AllowPrivate: true})
		req.Prebuilt = source.Prebuilt{Fetch: true, Hosts: []string{"127.0.0.1"}, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	}}, change...)...)
}

func TestPrebuiltIsFetched(t *testing.T) {
	r := newReleases(t)
	linux := tgz(map[string]string{"napi-v3/addon.node": "\x7fELF linux"})
	r.files["/v1.0.0/linux-x64-glibc-3.tar.gz"] = linux
	r.files["/v1.0.0/darwin-arm64-unknown-3.tar.gz"] = tgz(map[string]string{"napi-v3/addon.node": "\xcf\xfa\xed\xfe"})
	o := fetching(t, r, preGyp(r.URL))
	want := []string{
		"index.js", "install-download/darwin-arm64-unknown-3.tar.gz", "install-download/darwin-arm64-unknown-3.tar.gz!/napi-v3/addon.node",
		"install-download/linux-x64-glibc-3.tar.gz", "install-download/linux-x64-glibc-3.tar.gz!/napi-v3/addon.node", "package.json",
	}
	origins := map[string]string{}
	var got []string
	if err := o.Workspace.Walk(t.Context(), func(e workspace.Entry) error {
		got = append(got, e.Path)
		origins[e.Path] = e.Part.Origin
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("files = %q; want %q", got, want)
	}
	if origin := origins[want[4]]; inventory.OriginOf(origin) != inventory.FromDownload || inventory.OriginOf(origins["index.js"]) != inventory.FromPackage {
		t.Errorf("origins = %v", origins)
	}
	if len(o.Fetched) != 2 {
		t.Fatalf("fetched %d assets; want 2", len(o.Fetched))
	}
	if f := o.Fetched[0]; f.URL != r.URL+"/v1.0.0/linux-x64-glibc-3.tar.gz" || f.SHA256 != hex256(linux) || f.Size != int64(len(linux)) || f.Path != want[3] || f.Part != "pkg:npm/addon@1.0.0" || f.Broken || f.Before != "" {
		t.Errorf("fetched %+v", f)
	}
	if text := noteTexts(o); text != "5 of 7 files that its installation asks for are not there: "+r.URL+"/v1.0.0/linux-x64-musl-3.tar.gz, "+r.URL+"/v1.0.0/linux-arm64-glibc-3.tar.gz, "+r.URL+"/v1.0.0/linux-arm64-musl-3.tar.gz, …" {
		t.Errorf("notes = %q", text)
	}
}

func TestPrebuiltIsFetchedOnlyIfAskedFor(t *testing.T) {
	r := newReleases(t)
	o := fetching(t, r, preGyp(r.URL), func(req *source.Request) { req.Prebuilt.Fetch = false })
	if len(r.asked) > 0 || len(o.Fetched) > 0 || len(o.Notes) > 0 {
		t.Errorf("asked for %v, fetched %v, notes %q", r.asked, o.Fetched, noteTexts(o))
	}
}

func TestPrebuiltPlatforms(t *testing.T) {
	for _, test := range []struct {
		platform string
		want     []string
	}{
		{"linux-x64-musl", []string{"linux-x64-musl"}},
		{"linux-arm64,win32", []string{"linux-arm64-glibc", "linux-arm64-musl", "win32-x64-unknown"}},
		{"freebsd-x64", []string{"freebsd-x64-unknown"}},
		{"none", nil},
	} {
		t.Run(test.platform, func(t *testing.T) {
			r := newReleases(t)
			fetching(t, r, preGyp(r.URL), func(req *source.Request) { req.Platform = test.platform })
			var got []string
			for _, a := range r.asked {
				got = append(got, strings.TrimSuffix(strings.TrimPrefix(a, "127.0.0.1:"+r.port+"/v1.0.0/"), "-3.tar.gz"))
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("asked for %q; want %q", got, test.want)
			}
		})
	}
}

func TestPrebuiltHosts(t *testing.T) {
	body := tgz(map[string]string{"a/b": "c"})
	const name = "/v1.0.0/linux-x64-glibc-3.tar.gz"
	for _, test := range []struct {
		name    string
		setup   func(r *releases) (host string)
		change  func(req *source.Request)
		fetched int
		asked   int
		note    string
	}{
		{"not allowed", func(r *releases) string { return "https://example.com:" + r.port }, nil, 0, 0, "example.com is not among the hosts that may be asked (--fetch-host example.com)"},
		{"allowed with another port", func(r *releases) string { return "https://example.com:" + r.port },
			func(req *source.Request) { req.Prebuilt.Hosts = []string{"example.com:1"} }, 0, 0, "is not among the hosts"},
		{"allowed by name", func(r *releases) string { return "https://example.com:" + r.port },
			func(req *source.Request) { req.Prebuilt.Hosts = []string{"EXAMPLE.com"} }, 1, 1, ""},
		{"a redirect to an allowed host", func(r *releases) string {
			r.moved[name] = r.URL + "/store"
			r.files["/store"] = body
			return "https://example.com:" + r.port
		}, func(req *source.Request) { req.Prebuilt.Hosts = []string{"example.com", "127.0.0.1"} }, 1, 2, ""},
		{"a redirect to any other", func(r *releases) string {
			r.moved[name] = "https://example.com:" + r.port + "/store"
			r.files["/store"] = body
			return r.URL
		}, nil, 0, 1, "is not among the hosts that may be asked for this"},
		{"plain http", func(r *releases) string { return "http://127.0.0.1:" + r.port }, nil, 0, 0, "only https is fetched"},
		{"a private address", func(r *releases) string { return r.URL }, nil, 0, 0, "a loopback address"},
		{"offline", func(r *releases) string { return r.URL }, nil, 0, 0, "because there is no network to be used (--offline): http"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReleases(t)
			r.files[name] = body
			p := preGyp(test.setup(r))
			cache := t.TempDir()
			change := func(req *source.Request) {
				req.Platform, req.CacheDir = "linux-x64-glibc", cache
				if test.change != nil {
					test.change(req)
				}
			}
			var o *source.Opened
			switch test.name {
			case "a private address":
				o = fetching(t, r, p, change, func(req *source.Request) { req.Egress = r.client(t, egress.Options{}) })
			case "offline":
				fetching(t, r, p, change, func(req *source.Request) { req.Prebuilt.Fetch = false }) // fills the cache
				o = mustOpen(t, "npm:addon", change, func(req *source.Request) {
					req.Egress = r.client(t, egress.Options{Offline: true})
					req.Prebuilt = source.Prebuilt{Fetch: true, Hosts: []string{"127.0.0.1"}}
				})
			default:
				o = fetching(t, r, p, change)
			}
			if len(o.Fetched) != test.fetched || len(r.asked) != test.asked || test.note == "" && strings.Contains(noteTexts(o), "not looked at") || !strings.Contains(noteTexts(o), test.note) {
				t.Errorf("fetched %d, asked %v, notes %q; want %d, %d, %q", len(o.Fetched), r.asked, noteTexts(o), test.fetched, test.asked, test.note)
			}
		})
	}
}

// What is behind an address is remembered, and compared with what was there
// the first time.
func TestPrebuiltChanges(t *testing.T) {
	r := newReleases(t)
	first, second := tgz(map[string]string{"a/b": "1"}), tgz(map[string]string{"a/b": "2"})
	records := filepath.Join(t.TempDir(), "prebuilt")
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for day, test := range []struct {
		body   []byte
		before string
	}{{first, ""}, {first, ""}, {second, hex256(first)}, {second, hex256(first)}, {first, ""}} {
		r.files["/v1.0.0/linux-x64-glibc-3.tar.gz"] = test.body
		o := fetching(t, r, preGyp(r.URL), func(req *source.Request) {
			req.Platform = "linux-x64-glibc"
			req.Prebuilt.Records, req.Prebuilt.Now = records, began.AddDate(0, 0, day)
		})
		if len(o.Fetched) != 1 {
			t.Fatalf("day %d: fetched %v, notes %q", day, o.Fetched, noteTexts(o))
		}
		if f := o.Fetched[0]; f.Before != test.before || !f.Since.Equal(began) || f.SHA256 != hex256(test.body) {
			t.Errorf("day %d: %+v; want before %q since %v", day, f, test.before, began)
		}
	}
	files, err := os.ReadDir(records)
	if err != nil || len(files) != 1 {
		t.Errorf("%d records, %v; want one", len(files), err)
	}
}

func TestPrebuiltRecordsThatCannotBeKept(t *testing.T) {
	r := newReleases(t)
	r.files["/v1.0.0/linux-x64-glibc-3.tar.gz"] = tgz(map[string]string{"a/b": "1"})
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	o := fetching(t, r, preGyp(r.URL), func(req *source.Request) { req.Platform, req.Prebuilt.Records = "linux-x64-glibc", file })
	if len(o.Fetched) != 1 || !strings.Contains(noteTexts(o), "cannot be remembered") {
		t.Errorf("fetched %v, notes %q", o.Fetched, noteTexts(o))
	}
}

func TestPrebuiltPromises(t *testing.T) {
	const content = "\x7fELF content"
	for _, test := range []struct {
		name   string
		files  map[string][]byte // by extension
		hash   string
		want   string // extension of the address
		broken bool
	}{
		{"Brotli", map[string][]byte{".br": brotlied(content)}, "sha256:" + hex256([]byte(content)), ".br", false},
		{"gzip", map[string][]byte{".gz": gzipped(content)}, "sha256:" + hex256([]byte(content)), ".gz", false},
		{"neither", map[string][]byte{"": []byte(content)}, "sha256:" + hex256([]byte(content)), "", false},
		{"another hash", map[string][]byte{".br": brotlied("\x7fELF other")}, "sha256:" + hex256([]byte(content)), ".br", true},
		{"no hash", map[string][]byte{".br": brotlied(content)}, "", ".br", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReleases(t)
			for ext, body := range test.files {
				r.files["/o/addon/releases/download/1.0.0/linux-x64-127"+ext] = body
			}
			hashes := object{}
			if test.hash != "" {
				hashes["linux-x64-127"] = test.hash
			}
			o := fetching(t, r, cached("127.0.0.1:"+r.port, hashes), func(req *source.Request) { req.Platform = "linux-x64-glibc" })
			if len(o.Fetched) != 1 {
				t.Fatalf("fetched %v, notes %q", o.Fetched, noteTexts(o))
			}
			f := o.Fetched[0]
			if f.URL != r.URL+"/o/addon/releases/download/1.0.0/linux-x64-127"+test.want || f.Broken != test.broken || f.Promise != test.hash || f.Path != "install-download/linux-x64-127" {
				t.Errorf("fetched %+v", f)
			}
			if data, err := fs.ReadFile(o.Workspace.FS(), f.Path); err != nil || !strings.HasPrefix(string(data), "\x7fELF") {
				t.Errorf("%s holds %q, %v", f.Path, data, err)
			}
		})
	}
}

// What comes back may be anything.
func TestPrebuiltThatIsBroken(t *testing.T) {
	for _, test := range []struct{ name, ext, body, note string }{
		{"not Brotli", ".br", "<html>", "broken or empty"},
		{"not gzip", ".gz", "<html>", "broken or empty"},
		{"more than the cap", ".br", string(brotlied(strings.Repeat("x", 101<<20))), "unpacks to more than 100 MiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReleases(t)
			r.files["/o/addon/releases/download/1.0.0/linux-x64-127"+test.ext] = []byte(test.body)
			o := fetching(t, r, cached("127.0.0.1:"+r.port, nil), func(req *source.Request) { req.Platform = "linux-x64-glibc" })
			if len(o.Fetched) != 0 || !strings.Contains(noteTexts(o), test.note) {
				t.Errorf("fetched %v, notes %q; want %q", o.Fetched, noteTexts(o), test.note)
			}
		})
	}
}

// A package cannot hide what is fetched behind files of its own.
func TestPrebuiltBesideAFolderOfThatName(t *testing.T) {
	r := newReleases(t)
	r.files["/v1.0.0/linux-x64-glibc-3.tar.gz"] = tgz(map[string]string{"a/b": "1"})
	p := preGyp(r.URL)
	isolate(t)
	s := newServer(t, "registry.example")
	m := p.versions["1.0.0"]
	m["name"], m["version"] = "addon", "1.0.0"
	m["dist"] = s.tarball("", "addon", "1.0.0", tgz(map[string]string{
		"package/package.json": string(toJSON(m)), "package/install-download/linux-x64-glibc-3.tar.gz": "harmless"}))
	s.publish("", p)
	t.Setenv("npm_config_registry", s.URL)
	o := mustOpen(t, "npm:addon", func(req *source.Request) {
		req.Platform, req.Egress = "linux-x64-glibc", r.client(t, egress.Options{AllowPrivate: true})
		req.Prebuilt = source.Prebuilt{Fetch: true, Hosts: []string{"127.0.0.1"}}
	})
	if len(o.Fetched) != 1 || o.Fetched[0].Path != "install-download-2/linux-x64-glibc-3.tar.gz" {
		t.Errorf("fetched %v, notes %q", fmt.Sprint(o.Fetched), noteTexts(o))
	}
}
