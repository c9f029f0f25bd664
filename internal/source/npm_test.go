package source_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
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
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/source"
)

// leftPad is a package with many kinds of versions.
func leftPad() npmPackage {
	return npmPackage{
		name: "left-pad",
		tags: object{"latest": "1.3.0", "next": "2.0.0-rc.1", "gone": "0.0.9"},
		versions: map[string]object{
			"1.0.0":      {},
			"1.2.0":      {},
			"1.2.7":      {"deprecated": "use\n1.3"},
			"1.3.0":      {"description": "Pads on the left", "keywords": []string{"pad"}, "license": "MIT", "homepage": "https://pad.test", "repository": object{"type": "git", "url": "git+https://git.test/pad"}},
			"1.4.0":      {},
			"2.0.0-rc.1": {},
			"2.0.0-rc.2": {},
		},
	}
}

func TestNPM(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", leftPad())
	t.Setenv("npm_config_registry", s.URL)
	var told []string
	o := mustOpen(t, "npm:left-pad", func(r *source.Request) {
		r.Progress = func(done, total int64, what string) { told = append(told, fmt.Sprint(what, done == total)) }
	})
	body := s.versionsTarball("left-pad", "1.3.0")
	want := &inventory.Release{
		Ecosystem: target.NPM, Name: "left-pad", Version: "1.3.0",
		Description: "Pads on the left", Keywords: []string{"pad"}, License: "MIT",
		Homepage: "https://pad.test", Repository: "git+https://git.test/pad",
		Published: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC),
		Parts:     []inventory.Part{{PURL: "pkg:npm/left-pad@1.3.0", Filename: "left-pad-1.3.0.tgz", Digest: sri512(body), Size: int64(len(body))}},
	}
	if diff := cmp.Diff(want, o.Release); diff != "" {
		t.Errorf("release (-want +got):\n%s", diff)
	}
	if o.Target.Version != "1.3.0" || o.Digest != sri512(body) || len(o.Notes) != 0 {
		t.Errorf("target %v, digest %s, notes %v", o.Target, o.Digest, o.Notes)
	}
	if got := paths(t, o); !slices.Equal(got, []string{"index.js", "package.json"}) {
		t.Errorf("files = %v", got)
	}
	if !slices.Contains(told, "left-pad-1.3.0.tgztrue") {
		t.Errorf("progress = %v", told)
	}
}

// versionsTarball returns what the fake registry serves as a tarball.
func (s *server) versionsTarball(name, version string) []byte {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/"+name+"/-/"+name+"-"+version+".tgz", nil))
	return w.Body.Bytes()
}

func TestNPMVersions(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", leftPad())
	t.Setenv("npm_config_registry", s.URL)
	for _, test := range []struct{ spec, want string }{
		{"", "1.3.0"},
		{"@1.0.0", "1.0.0"},
		{"@v1.0.0", "1.0.0"},
		{"@=1.0.0", "1.0.0"},
		{"@next", "2.0.0-rc.1"},
		{"@latest", "1.3.0"},
		{"@*", "1.3.0"},
		{"@^1.0.0", "1.3.0"}, // latest, though 1.4.0 is higher
		{"@>1.3.0", "1.4.0"},
		{"@1.2.x", "1.2.0"}, // 1.2.7 is deprecated
		{"@~1.2.1", "1.2.7"},
		{"@>=2.0.0-rc.1", "2.0.0-rc.2"},
		{"@^0.9 || 1.0.x", "1.0.0"},
	} {
		t.Run(test.spec, func(t *testing.T) {
			o := mustOpen(t, "npm:left-pad"+test.spec)
			if o.Release.Version != test.want {
				t.Errorf("version = %s; want %s", o.Release.Version, test.want)
			}
			if deprecated := strings.Contains(noteTexts(o), "the package is deprecated: use 1.3"); deprecated != (test.want == "1.2.7") {
				t.Errorf("notes = %v", o.Notes)
			}
		})
	}
	for _, test := range []struct{ spec, says string }{
		{"@9.9.9", `the npm package "left-pad" has no version 9.9.9; name one of the versions that exist: 1.4.0, 1.3.0, 1.2.7, 1.2.0, 1.0.0`},
		{"@^9", "no version in the range ^9; name one of the versions that exist: 1.4.0"},
		{"@nightly", `has no tag "nightly"; name a version, or a tag that exists: gone, latest, next`},
		{"@gone", `the tag "gone" of the npm package "left-pad" points to version 0.0.9, which was unpublished; name one`},
	} {
		t.Run(test.spec, func(t *testing.T) {
			_, err := open(t, "npm:left-pad"+test.spec)
			oneSentence(t, err, fault.NotFound, test.says)
		})
	}
}

func TestNPMIntegrity(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	t.Setenv("npm_config_registry", s.URL)
	body := tgz(map[string]string{"package/package.json": `{"name":"x","version":"1.0.0"}`})
	good, bad := sri512(body), sri512([]byte("other"))
	for _, test := range []struct {
		name, integrity, shasum string
		digest                  string // "" if it must be refused
		note                    string
	}{
		{"sha512", good, "", good, ""},
		{"sha512 is stronger than a wrong sha1", good, strings.Repeat("0", 40), good, ""},
		{"several of the strongest", bad + " " + good, "", good, ""},
		{"options and unknown algorithms", "md9-AAAA " + good + "?x=y", "", good, ""},
		{"sha1 in hexadecimal", "", hex1(body), "sha1-", ""},
		{"wrong sha512 with a right sha1", bad, hex1(body), "", ""},
		{"wrong sha1", "", strings.Repeat("0", 40), "", ""},
		{"none", "", "", "none", "not verified: the registry gives no hash for x-1.0.0.tgz"},
		{"unreadable", "sha512-%%% nonsense", "", "none", "not verified"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dist := s.tarball("", "x", "1.0.0", body)
			dist["integrity"], dist["shasum"] = test.integrity, test.shasum
			s.publish("", npmPackage{"x", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": dist}}})
			o, err := open(t, "npm:x")
			if test.digest == "" {
				oneSentence(t, err, fault.Corrupt, "x-1.0.0.tgz is not what the registry promised", "should begin with", "do not install it")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := o.Release.Parts[0].Digest; test.digest == "none" && got != "" || test.digest != "none" && !strings.HasPrefix(got, test.digest) {
				t.Errorf("digest = %q; want %q", got, test.digest)
			}
			if got := noteTexts(o); test.note == "" && got != "" || !strings.Contains(got, test.note) {
				t.Errorf("notes = %q; want %q", got, test.note)
			}
		})
	}
}

// The levels of settings, strongest last: each test writes all weaker ones too.
func TestNPMSettings(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me:"+secret))
	for _, test := range []struct {
		name   string
		target string
		setup  func(t *testing.T, home, project string, s *server)
		auth   string // what the registry must have seen
	}{
		{"user", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"/\n")
		}, ""},
		{"user with a token from the environment", "npm:a", func(t *testing.T, home, project string, s *server) {
			t.Setenv("TOKEN", secret)
			write(t, filepath.Join(home, ".npmrc"), "; a comment\nalways-auth\nregistry = \""+s.URL+"\"\n"+nerf(s)+"/:_authToken=${TOKEN}\n[section]\nregistry=nonsense\n")
		}, "Bearer " + secret},
		{"a dollar in a token", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"\n"+nerf(s)+"/:_authToken=$x${UNSET_VARIABLE?}$HOME\n")
		}, "Bearer $x$HOME"},
		{"global", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, "prefix/etc/npmrc"), "registry="+s.URL)
		}, ""},
		{"global file named by the user", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "globalconfig=~/global")
			write(t, filepath.Join(home, "global"), "registry="+s.URL)
		}, ""},
		{"project over user", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry=http://wrong.example:1/")
			write(t, filepath.Join(project, "package.json"), "{}")
			write(t, filepath.Join(project, ".npmrc"), "registry="+s.URL)
		}, ""},
		{"environment over project", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(project, ".npmrc"), "registry=http://wrong.example:1/")
			t.Setenv("NPM_CONFIG_REGISTRY", s.URL)
		}, ""},
		{"empty environment", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL)
			t.Setenv("npm_config_registry", "")
		}, ""},
		{"token in the environment", "npm:a", func(t *testing.T, home, project string, s *server) {
			t.Setenv("npm_config_registry", s.URL)
			t.Setenv("npm_config_"+nerf(s)+"/:_authToken", secret)
		}, "Bearer " + secret},
		{"another user file", "npm:a", func(t *testing.T, home, project string, s *server) {
			t.Setenv("npm_config_userconfig", filepath.Join(home, "other"))
			write(t, filepath.Join(home, ".npmrc"), "registry=http://wrong.example:1/")
			write(t, filepath.Join(home, "other"), "registry="+s.URL)
		}, ""},
		{"scope below a path with a token", "npm:@corp/a", func(t *testing.T, home, project string, s *server) {
			t.Setenv("npm_config_registry", "http://wrong.example:1/")
			write(t, filepath.Join(home, ".npmrc"), "@corp:registry="+s.URL+"/npm/\n"+nerf(s)+"/npm/:_authToken="+secret)
		}, "Bearer " + secret},
		{"password", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"\n"+nerf(s)+"/:username=me\n"+nerf(s)+"/:_password="+base64.StdEncoding.EncodeToString([]byte(secret)))
		}, basic},
		{"encoded user and password", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"\n"+nerf(s)+"/:_auth="+strings.TrimPrefix(basic, "Basic "))
		}, basic},
		{"credentials in the URL", "npm:a", func(t *testing.T, home, project string, s *server) {
			t.Setenv("npm_config_registry", strings.Replace(s.URL, "//", "//me:"+secret+"@", 1))
		}, basic},
		{"a token for another host stays at home", "npm:a", func(t *testing.T, home, project string, s *server) {
			write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"\n//other.example/:_authToken="+secret)
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := isolate(t)
			project := filepath.Join(home, "work", "project")
			s := newServer(t, "registry.example")
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {}}})
			s.publish("/npm", npmPackage{"@corp/a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {}}})
			test.setup(t, home, project, s)
			mustOpen(t, test.target, func(r *source.Request) { r.ProjectDir = filepath.Join(project, "below") })
			for _, r := range s.seen {
				if got := r.Header.Get("Authorization"); got != test.auth {
					t.Errorf("Authorization of %s = %q; want %q", r.URL.Path, got, test.auth)
				}
			}
			if len(s.seen) < 2 {
				t.Errorf("requests = %v", s.asked())
			}
		})
	}
}

// nerf is how npm writes the key of a registry's credentials.
func nerf(s *server) string { return strings.TrimPrefix(s.URL, "http:") }

// Without settings the public registry is asked, which only the library names.
func TestNPMDefault(t *testing.T) {
	isolate(t)
	public, err := url.Parse(datasource.ParseNPMRegistryInfo(nil).ScopeURLs[""])
	if err != nil || public.Host == "" {
		t.Fatal("no public default", err)
	}
	var asked []string
	_, err = open(t, "npm:a", func(r *source.Request) {
		r.Egress = newClient(egress.Options{Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			asked = append(asked, host)
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}})
	})
	oneSentence(t, err, fault.Unavailable, "cannot be reached: its name does not resolve; check the network")
	if !slices.Equal(asked, []string{public.Host}) {
		t.Errorf("asked for %v; want %s", asked, public.Host)
	}
}

func TestNPMErrors(t *testing.T) {
	fail := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
	}
	tarballAt := func(s *server, answer http.HandlerFunc) {
		s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {}}})
		s.on("/a/-/a-1.0.0.tgz", answer)
	}
	for _, test := range []struct {
		name, target string
		setup        func(*server)
		kind         fault.Kind
		says         string
	}{
		{"no package", "npm:a", func(*server) {}, fault.NotFound, `there is no npm package "a" at registry.example:`},
		{"no package of a scope", "npm:@s/a", func(*server) {}, fault.NotFound, "the token of its scope in .npmrc"},
		{"unauthorized", "npm:a", func(s *server) { s.on("/a", fail(401)) }, fault.Forbidden, "refuses with 401 Unauthorized; check the credentials for it in .npmrc"},
		{"forbidden", "npm:a", func(s *server) { s.on("/a", fail(403)) }, fault.Forbidden, "refuses with 403 Forbidden"},
		{"broken registry", "npm:a", func(s *server) { s.on("/a", fail(502)) }, fault.Unavailable, "answers 502 Bad Gateway; try again later"},
		{"strange answer", "npm:a", func(s *server) { s.on("/a", fail(418)) }, fault.Unavailable, "answers 418"},
		{"not JSON", "npm:a", func(s *server) { s.serve("/a", "text/html", []byte("<html>login</html>")) }, fault.Corrupt, "is no npm registry's answer; check the registry in .npmrc"},
		{"unpublished", "npm:a", func(s *server) {
			s.serve("/a", "application/json", []byte(`{"name":"a","time":{"unpublished":{"time":"x"}}}`))
		}, fault.NotFound, "has no versions: all were unpublished"},
		{"no tarball", "npm:a", func(s *server) { tarballAt(s, fail(404)) }, fault.NotFound, `lists version 1.0.0 of "a" but does not have its file`},
		{"tarball needs credentials", "npm:a", func(s *server) { tarballAt(s, fail(401)) }, fault.Forbidden, "check the credentials"},
		{"tarball is cut off", "npm:a", func(s *server) {
			tarballAt(s, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "999")
				io.WriteString(w, "x")
			})
		}, fault.Unavailable, "broke off its answer; check the network"},
		{"tarball stalls", "npm:a", func(s *server) {
			tarballAt(s, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			})
		}, fault.Unavailable, "stopped sending in the middle of an answer"},
		{"tarball is too big", "npm:a", func(s *server) {
			tarballAt(s, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "9999999999") })
		}, fault.Exhausted, "a-1.0.0.tgz is larger than the cap of 500 MiB for one download; download it and scan it from disk"},
		{"tarball is a page", "npm:a", func(s *server) {
			body := []byte("<html>")
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": s.tarball("", "a", "1.0.0", body)}}})
		}, fault.Corrupt, "a-1.0.0.tgz"},
		{"tarball is broken", "npm:a", func(s *server) {
			body := tgz(map[string]string{"package/x": strings.Repeat("x", 5000)})[:30]
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": s.tarball("", "a", "1.0.0", body)}}})
		}, fault.Corrupt, "the archive a-1.0.0.tgz is broken or empty"},
		{"tarball elsewhere than the web", "npm:a", func(s *server) {
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": object{"tarball": "file:///etc/passwd"}}}})
		}, fault.Corrupt, "the registry gives no usable address for the tarball of a@1.0.0; try another version"},
		{"tarball in its address", "npm:a", func(s *server) {
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": object{"tarball": "data:,x"}}}})
		}, fault.Corrupt, "no usable address for the tarball of a@1.0.0"},
		{"tarball is a number", "npm:a", func(s *server) {
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": object{"tarball": 5}}}})
		}, fault.Corrupt, "no usable address for the tarball of a@1.0.0"},
		{"dist is a list", "npm:a", func(s *server) {
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": []int{1}}}})
		}, fault.Corrupt, "no usable address for the tarball of a@1.0.0"},
		{"package is too big", "npm:a", func(s *server) {
			s.on("/a", func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "9999999999") })
		}, fault.Exhausted, "larger than the cap of 192 MiB for metadata; check the registry in your settings"},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			test.setup(s)
			t.Setenv("npm_config_registry", strings.Replace(s.URL, "//", "//me:"+secret+"@", 1))
			_, err := open(t, test.target, func(r *source.Request) {
				r.Egress = newClient(egress.Options{IdleTime: 50 * time.Millisecond, Attempts: 2})
			})
			if test.kind == fault.Corrupt && test.name == "tarball is a page" {
				if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), test.says) {
					t.Errorf("error = %v", err)
				}
				return
			}
			oneSentence(t, err, test.kind, test.says)
		})
	}
	t.Run("no registry", func(t *testing.T) {
		isolate(t)
		t.Setenv("npm_config_registry", "registry.example")
		_, err := open(t, "npm:a")
		oneSentence(t, err, fault.Invalid, "is not an http or https URL; correct the registry setting")
	})
	t.Run("cancelled", func(t *testing.T) {
		isolate(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := source.Open(ctx, source.Request{Target: target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a"}, Egress: newClient(egress.Options{})})
		oneSentence(t, err, fault.Unavailable, "cancelled")
	})
}

// A registry that stumbles once is asked again.
func TestNPMRetry(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", leftPad())
	t.Setenv("npm_config_registry", s.URL)
	stumbled := map[string]bool{}
	for path, answer := range s.answers {
		s.answers[path] = func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			first := !stumbled[path]
			stumbled[path] = true
			s.mu.Unlock()
			switch {
			case first && strings.HasSuffix(path, ".tgz"):
				w.Header().Set("Content-Length", "100")
				io.WriteString(w, "cut")
			case first:
				w.WriteHeader(503)
			default:
				answer(w, r)
			}
		}
	}
	if o := mustOpen(t, "npm:left-pad"); len(paths(t, o)) != 2 {
		t.Error("the tarball is not whole")
	}
}

// The file host that a registry names, or redirects to, is trusted, but gets no
// credentials. Where that one redirects to is not.
func TestNPMFileHost(t *testing.T) {
	home := isolate(t)
	s, files := newServer(t, "registry.example"), newServer(t, "files.example")
	body := tgz(map[string]string{"package/package.json": "{}"})
	dist := files.tarball("", "a", "1.0.0", body)
	s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": dist}}})
	write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"\n"+nerf(s)+"/:_authToken="+secret)
	mustOpen(t, "npm:a")
	for _, r := range files.seen {
		if r.Header.Get("Authorization") != "" {
			t.Error("the token went to another host")
		}
	}
	if len(files.seen) != 1 {
		t.Errorf("the file host saw %v", files.asked())
	}
	dist["tarball"] = s.URL + "/a/-/a-1.0.0.tgz"
	s.on("/a/-/a-1.0.0.tgz", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, files.URL+"/a/-/a-1.0.0.tgz", http.StatusFound)
	})
	mustOpen(t, "npm:a")
	for _, r := range files.seen {
		if r.Header.Get("Authorization") != "" {
			t.Error("the token went to another host by a redirect")
		}
	}
	deep := newServer(t, "deep.example")
	files.on("/a/-/a-1.0.0.tgz", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, deep.URL, http.StatusFound) })
	_, err := open(t, "npm:a")
	oneSentence(t, err, fault.Forbidden, "deep.example leads to a loopback address, which is refused; use a public host")
}

// A registry that repeats the public one's answers names its host, which npm
// replaces by the configured one.
func TestNPMReplacesHost(t *testing.T) {
	home := isolate(t)
	public, _ := url.Parse(datasource.ParseNPMRegistryInfo(nil).ScopeURLs[""])
	s := newServer(t, "registry.example")
	body := tgz(map[string]string{"package/package.json": "{}"})
	dist := s.tarball("/mirror", "a", "1.0.0", body)
	dist["tarball"] = "https://" + public.Host + "/a/-/a-1.0.0.tgz"
	s.publish("/mirror", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"dist": dist}}})
	t.Setenv("npm_config_registry", s.URL+"/mirror/")
	mustOpen(t, "npm:a")
	if !slices.Contains(s.asked(), "/mirror/a/-/a-1.0.0.tgz") {
		t.Errorf("asked for %v", s.asked())
	}
	write(t, filepath.Join(home, ".npmrc"), "replace-registry-host=never")
	_, err := open(t, "npm:a", func(r *source.Request) { r.Egress = newClient(egress.Options{Attempts: 1}) })
	if err == nil || !strings.Contains(err.Error(), public.Host) {
		t.Errorf("with replace-registry-host=never: %v", err)
	}
}

// npm sends a variable that is not set by its name; that is no credential.
func TestNPMUnsetToken(t *testing.T) {
	for _, line := range []string{"_authToken=${NO_SUCH_VARIABLE}", "_auth=${NO_SUCH_VARIABLE}", "username=me\n%s/:_password=${NO_SUCH_VARIABLE}"} {
		home := isolate(t)
		s := newServer(t, "registry.example")
		s.publish("", leftPad())
		if strings.Contains(line, "%s") {
			line = fmt.Sprintf(line, nerf(s))
		}
		write(t, filepath.Join(home, ".npmrc"), "registry="+s.URL+"\n"+nerf(s)+"/:"+line)
		o := mustOpen(t, "npm:left-pad")
		for _, r := range s.seen {
			if h := r.Header.Get("Authorization"); h != "" {
				t.Errorf("%s: sent %q", line, h)
			}
		}
		want := "the token for " + strings.TrimPrefix(s.URL, "http://") + " in .npmrc names an environment variable that is not set"
		if got := noteTexts(o); got != want {
			t.Errorf("%s: notes = %q; want %q", line, got, want)
		}
		s.on("/left-pad", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) })
		_, err := open(t, "npm:left-pad")
		oneSentence(t, err, fault.Forbidden, "refuses with 401 Unauthorized", "names an environment variable that is not set")
	}
}

// What a registry shows of a package need not be what it installs.
func TestNPMManifestConfusion(t *testing.T) {
	shown := object{"scripts": object{"postinstall": "node build.js", "test": "x"}}
	for _, test := range []struct {
		name   string
		shown  object
		packed object
		files  map[string]string
		want   string
	}{
		{"the same", shown, object{"name": "a", "version": "1.0.0", "scripts": object{"postinstall": "node build.js", "test": "y"}}, nil, ""},
		{"as npm publishes it", object{"scripts": object{"install": "node-gyp rebuild", "postinstall": "tool x"}},
			object{"name": "a", "version": "v1.0.0+build", "scripts": object{"postinstall": "./node_modules/.bin/tool x"}}, map[string]string{"package/binding.gyp": "{}"}, ""},
		{"a hidden script", object{}, object{"name": "a", "version": "1.0.0", "scripts": object{"preinstall": "node evil.js"}}, nil, `scripts.preinstall (none and "node evil.js")`},
		{"another script", shown, object{"name": "a", "version": "1.0.0", "scripts": object{"postinstall": "node evil.js"}}, nil, `scripts.postinstall ("node build.js" and "node evil.js")`},
		{"another package", object{}, object{"name": "b", "version": "2.0.0"}, nil, `name ("a" and "b"), version ("1.0.0" and "2.0.0")`},
		{"a build without its file", object{"scripts": object{"install": "node-gyp rebuild"}}, object{"name": "a", "version": "1.0.0"}, nil, `scripts.install ("node-gyp rebuild" and none)`},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			files := map[string]string{"package/package.json": string(toJSON(test.packed))}
			maps.Copy(files, test.files)
			m := maps.Clone(test.shown)
			m["dist"] = s.tarball("", "a", "1.0.0", tgz(files))
			s.publish("", npmPackage{"a", object{"latest": "1.0.0"}, map[string]object{"1.0.0": m}})
			t.Setenv("npm_config_registry", s.URL)
			want := ""
			if test.want != "" {
				want = "the registry's manifest and package.json in the tarball disagree: " + test.want
			}
			if got := noteTexts(mustOpen(t, "npm:a")); got != want {
				t.Errorf("notes = %q; want %q", got, want)
			}
		})
	}
}

// A registry without the document of one version, and with a large list.
func TestNPMLargePackument(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	p := npmPackage{"big", object{"latest": "1.0.0"}, map[string]object{"1.0.0": {"description": "big"}}}
	filler := strings.Repeat("x", 3<<20)
	s.publish("", p)
	p.versions["0.9.0"] = object{"deprecated": filler}
	s.publish("", p)
	t.Setenv("npm_config_registry", s.URL)
	o := mustOpen(t, "npm:big")
	if o.Release.Description != "big" || !slices.Contains(s.asked(), "/big/1.0.0") {
		t.Errorf("%q, asked for %v", o.Release.Description, s.asked())
	}
	s.on("/big/1.0.0", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(405) })
	if o := mustOpen(t, "npm:big"); o.Release.Description != "big" {
		t.Errorf("description = %q from a registry with one document", o.Release.Description)
	}
}

// A cache that cannot be used is no reason not to scan, but is told.
func TestCacheUnusable(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(dir string)
	}{
		{"a file", func(dir string) { write(t, dir, "x") }},
		{"below a file", func(dir string) { write(t, filepath.Dir(dir), "x") }},
		{"no folder for files", func(dir string) { write(t, filepath.Join(dir, "files"), "x") }},
		{"no folder for documents", func(dir string) { write(t, filepath.Join(dir, "documents"), "x") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			isolate(t)
			s := newServer(t, "registry.example")
			s.publish("", leftPad())
			t.Setenv("npm_config_registry", s.URL)
			dir := filepath.Join(t.TempDir(), "data", "cache")
			test.spoil(dir)
			o := mustOpen(t, "npm:left-pad", func(r *source.Request) { r.CacheDir = dir })
			if len(paths(t, o)) != 2 {
				t.Error("files are missing")
			}
			if got := noteTexts(o); !strings.HasPrefix(got, "the cache in "+dir+" cannot be used: ") || strings.Contains(got, "\n") {
				t.Errorf("notes = %q", got)
			}
			o.Close()
			if left, _ := filepath.Glob(filepath.Join(dir, "new-*")); left != nil {
				t.Errorf("left in the cache: %v", left)
			}
		})
	}
}

func TestCache(t *testing.T) {
	isolate(t)
	s := newServer(t, "registry.example")
	s.publish("", leftPad())
	full := s.answers["/left-pad"]
	s.on("/left-pad", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		full(w, r)
	})
	t.Setenv("npm_config_registry", s.URL)
	dir := filepath.Join(t.TempDir(), "cache")
	cached := func(r *source.Request) { r.CacheDir = dir }
	offline := func(r *source.Request) { r.CacheDir = dir; r.Egress = newClient(egress.Options{Offline: true}) }

	_, err := open(t, "npm:left-pad", offline)
	oneSentence(t, err, fault.Unavailable, "was not asked because --offline is set; run once without --offline")

	first := mustOpen(t, "npm:left-pad", cached)
	again := mustOpen(t, "npm:left-pad", cached, func(r *source.Request) {
		r.Progress = func(done, total int64, what string) { t.Errorf("told of %s, which was not fetched", what) }
	})
	if n := count(s.asked(), "/left-pad/-/left-pad-1.3.0.tgz"); n != 1 {
		t.Errorf("the tarball was fetched %d times", n)
	}
	s.mu.Lock()
	s.answers = map[string]http.HandlerFunc{} // the registry is gone
	s.mu.Unlock()
	without := mustOpen(t, "npm:left-pad@^1", offline)
	for _, o := range []*source.Opened{again, without} {
		if diff := cmp.Diff(first.Release, o.Release); diff != "" || first.Digest != o.Digest {
			t.Errorf("release from the cache (-first +again):\n%s", diff)
		}
		if len(paths(t, o)) != 2 {
			t.Error("files from the cache are missing")
		}
	}
	_, err = open(t, "npm:left-pad@1.0.0", offline)
	oneSentence(t, err, fault.Unavailable, "--offline is set")

	// What somebody changed on disk is not served.
	changed := 0
	filepath.WalkDir(filepath.Join(dir, "files"), func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			changed++
			return os.WriteFile(name, tgz(map[string]string{"package/evil.js": ""}), 0o600)
		}
		return err
	})
	_, err = open(t, "npm:left-pad", offline)
	oneSentence(t, err, fault.Unavailable, "--offline is set")
	if changed != 1 {
		t.Errorf("%d files in the cache; want 1", changed)
	}
}

func count(all []string, one string) int {
	n := 0
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}
