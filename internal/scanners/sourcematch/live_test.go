package sourcematch_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/egress"
	"github.com/loupe-sec/loupe/internal/core/target"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/sourcetext"
	"github.com/loupe-sec/loupe/internal/source"
)

// published are packages that come with binaries and the source of them. Those
// of one group share code, so that nothing is said of how they go together.
var published = []struct{ name, group string }{
	{"npm:bcrypt@6.0.0", ""}, {"npm:argon2@0.45.1", ""}, {"npm:zeromq@6.8.0", "zeromq"}, {"npm:leveldown@6.1.1", "leveldb"}, {"npm:classic-level@3.0.0", "leveldb"},
	{"npm:sodium-native@5.1.0", ""}, {"npm:node-pty@1.1.0", ""}, {"npm:@serialport/bindings-cpp@13.0.1", ""}, {"npm:utf-8-validate@6.0.6", ""}, {"npm:koffi@3.3.4", ""},
	{"npm:bare-type@1.4.0", "bare"}, {"npm:sharp@0.35.5", ""},
	{"pypi:psutil@7.2.2", ""}, {"pypi:msgpack", ""}, {"pypi:lxml", ""}, {"pypi:greenlet", ""}, {"pypi:regex", ""}, {"pypi:bitarray", ""}, {"pypi:rapidfuzz", ""}, {"pypi:pyzmq", "zeromq"}, {"pypi:coverage", ""}, {"pypi:zstandard", ""},
}

// TestOwnAgainstOthers holds the binaries of published packages against their
// own source and that of all others, and measures how well the two separate.
func TestOwnAgainstOthers(t *testing.T) {
	if os.Getenv("LOUPE_LIVE_TESTS") == "" {
		t.Skip("set LOUPE_LIVE_TESTS=1 to fetch packages with your own npm and pip settings")
	}
	type pack struct {
		name, group string
		units       []sourcetext.Unit
		index       *sourcetext.Index
		all         []string
		binaries    map[string][]byte
	}
	var packs []*pack
	for _, p := range published {
		tg, err := target.Parse(p.name)
		if err != nil {
			t.Fatal(err)
		}
		o, err := source.Open(t.Context(), source.Request{Target: tg, Platform: "", Egress: egress.New(egress.Options{}), CacheDir: filepath.Join(os.TempDir(), "loupe-live")})
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
			continue
		}
		one := &pack{name: p.name, group: p.group, binaries: map[string][]byte{}}
		seen := map[string]bool{}
		err = o.Workspace.Walk(t.Context(), func(e workspace.Entry) error {
			if e.Size > 8<<20 {
				return nil
			}
			data, err := fs.ReadFile(o.Workspace.FS(), e.Path)
			if err != nil {
				return nil // an archive: its members follow
			}
			if lang := sourcetext.LanguageOf(e.Path); lang != sourcetext.None {
				if u := sourcetext.Read(lang, data); len(u.Literals) > 0 {
					one.units = append(one.units, u)
					for _, l := range u.Literals {
						if !seen[l] {
							seen[l] = true
							one.all = append(one.all, l)
						}
					}
				}
			} else if native.Identify(data[:min(len(data), 4096)]).Native() && !strings.HasSuffix(e.Path, ".a") && !strings.HasSuffix(e.Path, ".lib") && len(one.binaries) < 12 {
				one.binaries[e.Path] = slices.Clone(data)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		o.Close()
		slices.Sort(one.all)
		one.index = sourcetext.NewIndex(one.all)
		t.Logf("%s: %d files of source with %d texts, %d binaries", p.name, len(one.units), len(one.all), len(one.binaries))
		packs = append(packs, one)
	}
	var own, others []float64
	for _, p := range packs {
		if len(p.units) == 0 {
			continue
		}
		for _, q := range packs {
			if p != q && p.group != "" && p.group == q.group {
				continue
			}
			best := 0.0
			for name, data := range q.binaries {
				hits := p.index.Find(data, true)
				m := sourcetext.Compare(p.units, func(l string) bool {
					i, _ := slices.BinarySearch(p.all, l)
					return hits[i]
				})
				best = max(best, m.Score)
				if p != q {
					others = append(others, m.Score)
					if m.Score > 0.2 {
						t.Logf("the source of %s and %s of %s: %.2f (%d of %d)", p.name, name, q.name, m.Score, m.Found, m.Of)
					}
				}
			}
			if p == q && len(q.binaries) > 0 {
				own = append(own, best)
				t.Logf("%s and its own source: %.2f", p.name, best)
			}
		}
	}
	if len(own) < 15 {
		t.Fatalf("only %d packages have both", len(own))
	}
	better, pairs := 0.0, 0.0
	for _, a := range own {
		for _, b := range others {
			pairs++
			switch {
			case a > b:
				better++
			case a == b:
				better += 0.5
			}
		}
	}
	auc := better / pairs
	t.Logf("%d packages with their own source, %d binaries with others': AUC %.4f", len(own), len(others), auc)
	if auc < 0.99 {
		t.Errorf("AUC %.4f; want at least 0.99", auc)
	}
}
