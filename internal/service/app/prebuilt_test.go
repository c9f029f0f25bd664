package app_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/core/fault"
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/service/app"
)

// packed makes a tarball of one file.
func packed(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	w := tar.NewWriter(gz)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := gz.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestFetchPrebuilt scans a package together with what its installation
// downloads, and again after somebody replaced that.
func TestFetchPrebuilt(t *testing.T) {
	addOn := func(imports string) []byte {
		data, err := synth.FromYAML([]byte("format: elf\narch: x86_64\nimports: [" + imports + "]\n"))
		if err != nil {
			t.Fatal(err)
		}
		return packed(t, "lib/a.node", data)
	}
	files := map[string][]byte{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, ok := files[r.URL.Path]; ok {
			w.Write(body)
			return
		}
		http.NotFound(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	manifest := map[string]any{
		"name": "a", "version": "1.0.0", "main": "a.js", "scripts": map[string]any{"install": "node-pre-gyp install"},
		"binary": map[string]any{"module_name": "a", "module_path": "lib", "host": server.URL, "package_name": "{platform}-{arch}-{libc}.tar.gz"},
		"dist":   map[string]any{"tarball": server.URL + "/a/-/a-1.0.0.tgz"},
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	files["/a/-/a-1.0.0.tgz"] = packed(t, "package/package.json", text)
	if files["/a"], err = json.Marshal(map[string]any{"name": "a", "dist-tags": map[string]any{"latest": "1.0.0"}, "versions": map[string]any{"1.0.0": manifest}}); err != nil {
		t.Fatal(err)
	}
	const asset = "/linux-x64-glibc.tar.gz"
	files[asset] = addOn("connect")

	home := t.TempDir()
	cafile := filepath.Join(home, "ca.pem")
	if err := os.WriteFile(cafile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("npm_config_registry", server.URL)
	t.Setenv("npm_config_cafile", cafile)
	a := app.New(app.Options{DataDir: filepath.Join(home, "data"), AllowPrivate: true})
	req := app.ScanRequest{
		Target: target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a"}, FetchPrebuilt: true, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	rep, err := a.Scan(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Binaries) != 1 || rep.Binaries[0].Path != "install-download/linux-x64-glibc.tar.gz!/lib/a.node" || rep.Binaries[0].Origin != inventory.FromDownload {
		t.Fatalf("binaries %+v, notes %v; want the one that is downloaded", rep.Binaries, rep.Notes)
	}
	changed := func(f finding.Finding) bool { return f.Rule == "download/asset-changed" }
	if slices.ContainsFunc(rep.Findings, changed) {
		t.Errorf("findings %+v; nothing has changed yet", rep.Findings)
	}

	files[asset] = addOn("connect, execve")
	req.Now = req.Now.AddDate(0, 1, 0)
	if rep, err = a.Scan(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rep.Findings, changed)
	if i < 0 || rep.Findings[i].Severity != finding.Critical || !strings.Contains(rep.Findings[i].Description, "changed since 2026-01-02") {
		t.Errorf("findings %+v; want that the file was replaced", rep.Findings)
	}
}

func TestFetchPrebuiltRefuses(t *testing.T) {
	npm := target.Target{Kind: target.Package, Ecosystem: target.NPM, Name: "a"}
	pypi := target.Target{Kind: target.Package, Ecosystem: target.PyPI, Name: "a"}
	for _, req := range []app.ScanRequest{
		{Target: pypi, FetchPrebuilt: true},
		{Target: target.Target{Kind: target.Path, Name: "."}, FetchPrebuilt: true},
		{Target: npm, FetchHosts: []string{"registry.example"}},
	} {
		if err := app.CheckScan(req); !fault.Is(err, fault.Invalid) {
			t.Errorf("CheckScan(%+v) = %v; want that it is invalid", req, err)
		}
	}
}
