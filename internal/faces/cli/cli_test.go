package cli_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/loupe-sec/loupe/internal/faces/cli"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

var update = flag.Bool("update", false, "rewrite what the scripts expect")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"loupe": func() { os.Exit(cli.Main(os.Args[1:], cli.System())) },
	})
}

// TestScripts runs the command lines in testdata/script, which read as a
// manual. Besides the commands of testscript there are
//
//	binary FILE YAML          make a native binary from its description
//	publish NAME VERSION DIR  put a folder on a registry of the loopback
//	code N COMMAND…           run a command that must exit with N
//	api FILE                  start a server that answers as the JSON in FILE says
//	mode FILE OCTAL           check who may read and write a file
//
// and the condition [sandbox] for a system on which --sandbox on works.
func TestScripts(t *testing.T) {
	rules, err := filepath.Abs("testdata/rules")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			reg := newRegistry()
			env.Defer(reg.server.Close)
			env.Values["registry"] = reg
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("RULES", rules)
			env.Setenv("npm_config_registry", reg.server.URL+"/")
			env.Setenv("PIP_INDEX_URL", reg.server.URL+"/simple/")
			env.Setenv("LOUPE_DATA", filepath.Join(env.WorkDir, ".data"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "sandbox" {
				return false, fmt.Errorf("there is no condition %q", cond)
			}
			return sandbox.Check(sandbox.On) == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"binary":  binary,
			"publish": publish,
			"code":    code,
			"api":     api,
			"mode":    mode,
		},
	})
}

func binary(ts *testscript.TestScript, _ bool, args []string) {
	data, err := synth.FromYAML([]byte(ts.ReadFile(args[1])))
	ts.Check(err)
	name := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(name), 0o755))
	ts.Check(os.WriteFile(name, data, 0o755))
}

func publish(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Value("registry").(*registry).publish(args[0], args[1], ts.MkAbs(args[2])))
}

func code(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("%v: %v; want exit code %s", args[1:], err, args[0])
	}
}

func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has the mode %s; want %s", args[0], got, args[1])
	}
}

// A registry speaks as much of npm's protocol as a client needs.
type registry struct {
	server *httptest.Server

	mu       sync.Mutex
	versions map[string]map[string]any // packages to versions to manifests
	tarballs map[string][]byte         // by path
}

func newRegistry() *registry {
	r := &registry{versions: map[string]map[string]any{}, tarballs: map[string][]byte{}}
	r.server = httptest.NewServer(r)
	return r
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if data, ok := r.tarballs[req.URL.Path]; ok {
		w.Write(data)
		return
	}
	name := strings.TrimPrefix(req.URL.Path, "/")
	if versions, ok := r.versions[name]; ok {
		names := slices.Sorted(maps.Keys(versions))
		json.NewEncoder(w).Encode(map[string]any{
			"name": name, "versions": versions, "dist-tags": map[string]string{"latest": names[len(names)-1]},
		})
		return
	}
	if m, ok := r.versions[path.Dir(name)][path.Base(name)]; ok {
		json.NewEncoder(w).Encode(m)
		return
	}
	http.NotFound(w, req)
}

// publish packs a folder as npm does and adds it to the registry.
func (r *registry) publish(name, version, dir string) error {
	data, err := pack(dir)
	if err != nil {
		return err
	}
	manifest := map[string]any{}
	if text, err := os.ReadFile(filepath.Join(dir, "package.json")); err == nil {
		if err := json.Unmarshal(text, &manifest); err != nil {
			return err
		}
	}
	sum := sha512.Sum512(data)
	at := fmt.Sprintf("/%s/-/%s-%s.tgz", name, path.Base(name), version)
	manifest["name"], manifest["version"] = name, version
	manifest["dist"] = map[string]any{
		"tarball": r.server.URL + at, "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.versions[name] == nil {
		r.versions[name] = map[string]any{}
	}
	r.versions[name][version] = manifest
	r.tarballs[at] = data
	return nil
}

func pack(dir string) ([]byte, error) {
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = tw.Write(data)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	err = gz.Close()
	return buf.Bytes(), err
}
