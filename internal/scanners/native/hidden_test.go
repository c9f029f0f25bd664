package native_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

// coded is C that asks for a function by a name that it decodes, and opens a
// file whose name it decodes.
func coded(encode func(i int, c byte) byte, decode string) string {
	array := func(s string) string {
		var list []string
		for i, c := range []byte(s + "\x00") {
			list = append(list, fmt.Sprint(encode(i, c)))
		}
		return strings.Join(list, ",")
	}
	return `
typedef unsigned char u8;
extern void *dlsym(void *, const char *);
extern int open(const char *, int);
static const u8 name[] = {` + array("getaddrinfo") + `};
static u8 file[] = {` + array("/etc/shadow") + `};
static void *volatile found;
__attribute__((noinline)) static void decode(u8 *out, const u8 *in, int n) { for (int i = 0; i < n; i++) out[i] = ` + decode + `; }
__attribute__((visibility("default"))) int innocent(int n) { return n * 3; }
__attribute__((visibility("default"))) int plant(void *h) {
	u8 b[32];
	decode(b, name, sizeof name);
	found = dlsym(h, (char *)b);
	decode(b, file, sizeof file);
	return open((char *)b, 0);
}`
}

// TestHidden compiles programs that hide what they use, and one that does not.
func TestHidden(t *testing.T) {
	need(t, "clang-16", "ld.lld-16")
	folder, out := t.TempDir(), t.TempDir()
	same := func(_ int, c byte) byte { return c }
	for name, text := range map[string]string{
		"plain":   coded(same, "in[i]"),
		"xor":     coded(func(_ int, c byte) byte { return c ^ 0x9b }, "in[i] ^ 0x9b"),
		"product": coded(func(i int, c byte) byte { return c ^ byte(i*i*7+0x51) }, "in[i] ^ (u8)(i * i * 7 + 0x51)"),
	} {
		for _, arch := range []string{"x86_64", "aarch64"} {
			file := arch + "-" + name
			write(t, filepath.Join(folder, file+".c"), []byte(text))
			run(t, folder, "clang-16", append(slices.Clone(plainC), "--target="+arch+"-linux-gnu", "-fPIC", "-o", file+".o", file+".c")...)
			run(t, folder, "ld.lld-16", "-shared", "-o", filepath.Join(out, file), file+".o")
		}
	}
	root, err := os.OpenRoot(out)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{native.Scanner}, ws, nil, scan.Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	binaries := inventory.Binaries.Of(res)
	if len(binaries) != 6 {
		t.Fatalf("%d binaries", len(binaries))
	}
	for _, b := range binaries {
		hidden := !strings.HasSuffix(b.Path, "-plain")
		evidence := map[string][]finding.Evidence{}
		for _, details := range b.Behaviors {
			for _, d := range details {
				evidence[d.Rule] = append(evidence[d.Rule], d.Evidence...)
			}
		}
		if got := len(evidence["native/hides-texts"]) > 0; got != hidden {
			t.Errorf("%s: reported that it hides texts: %v, want %v\n%s", b.Path, got, hidden, lines(b.Behaviors))
		}
		for rule, want := range map[string]string{"native/resolves-names": "getaddrinfo", "native/reads-password-files": "/etc/shadow"} {
			i := slices.IndexFunc(evidence[rule], func(e finding.Evidence) bool { return e.Value == want })
			switch {
			case rule == "native/resolves-names" && !hidden: // it is copied before it is asked for
			case i < 0:
				t.Errorf("%s: %s: %+v, want %s", b.Path, rule, evidence[rule], want)
			case hidden && (evidence[rule][i].Function != "plant" || evidence[rule][i].From == ""):
				t.Errorf("%s: %s: %+v, want it in plant, and how it is hidden", b.Path, rule, evidence[rule][i])
			}
		}
	}
}
