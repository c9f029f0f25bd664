// Package ruletest runs the examples that rules carry: for the tests of the
// built-in rules, and for `loupe rules test` on a user's own.
package ruletest

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/loupe-sec/loupe/internal/core/pattern"
	"github.com/loupe-sec/loupe/internal/core/rule"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// A Maker turns a described file of an example into real bytes. It is known by
// the extension that it takes off: with a maker for ".binary", x.elf.binary
// describes x.elf.
type Maker func(data []byte) ([]byte, error)

// Archive is a maker of zip files from YAML: a map "files" of names to texts.
func Archive(data []byte) ([]byte, error) {
	var d struct{ Files map[string]string }
	if err := yaml.UnmarshalWithOptions(data, &d, yaml.Strict()); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(d.Files)) {
		f, err := w.Create(name)
		if err != nil {
			return nil, err
		}
		if _, err := io.WriteString(f, d.Files[name]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// Check runs the examples of every rule that the scanners may report, and
// returns what is wrong with them, a line each: a bad example that was not
// reported by its rule on the lines that it names, a good one that was, a rule
// without one of each, unless it is about what only a source knows. Examples are written to a folder of their own below
// dir.
func Check(ctx context.Context, dir string, scanners []*scan.Scanner, rules []*rule.Rule, makers map[string]Maker) ([]string, error) {
	var wrong []string
	for _, r := range rules {
		var bad, good int
		for _, e := range r.Examples {
			if e.Bad {
				bad++
			} else {
				good++
			}
			folder, err := os.MkdirTemp(dir, "example-")
			if err != nil {
				return nil, err
			}
			lines, err := run(ctx, folder, scanners, r, e, makers)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", r.ID, e.Name, err)
			}
			wrong = append(wrong, compare(r, e, lines)...)
		}
		if !r.Deprecated && !needsSource(scanners, r) && (bad == 0 || good == 0) {
			wrong = append(wrong, fmt.Sprintf("%s: %d bad and %d good examples: want at least one of each", r.ID, bad, good))
		}
	}
	return wrong, nil
}

// needsSource reports whether a rule is about what only a source knows: no
// scanner that may report it can run on files alone.
func needsSource(scanners []*scan.Scanner, r *rule.Rule) bool {
	_, left, err := scan.Plan(scanners, true, nil)
	has := func(s *scan.Scanner) bool { return slices.Contains(s.Rules, r) }
	return err == nil && slices.ContainsFunc(left, has) && !slices.ContainsFunc(scanners, func(s *scan.Scanner) bool { return has(s) && !slices.Contains(left, s) })
}

// compare holds the lines on which a rule reported against those it should.
// Lines are by path.
func compare(r *rule.Rule, e rule.Example, got map[string][]int) (wrong []string) {
	if !e.Bad {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			wrong = append(wrong, fmt.Sprintf("%s: %s: reported in %s, which is good", r.ID, e.Name, name))
		}
		return wrong
	}
	if len(got) == 0 {
		return []string{fmt.Sprintf("%s: %s: not reported", r.ID, e.Name)}
	}
	for _, f := range e.Files {
		if want := f.Lines; want != nil && !slices.Equal(got[f.Path], want) {
			wrong = append(wrong, fmt.Sprintf("%s: %s: %s is reported on lines %v, want %v", r.ID, e.Name, f.Path, got[f.Path], want))
		}
	}
	return wrong
}

// run writes an example down, scans it, and returns where r was reported.
func run(ctx context.Context, folder string, scanners []*scan.Scanner, r *rule.Rule, e rule.Example, makers map[string]Maker) (map[string][]int, error) {
	for _, f := range e.Files {
		if err := write(folder, r.ID, f, makers); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		return nil, err
	}
	res, err := scan.Run(ctx, scanners, ws, nil, scan.Options{Workers: 1})
	if err != nil {
		return nil, err
	}
	for _, n := range res.Notes {
		if strings.HasPrefix(n.Text, "not looked at") {
			return nil, fmt.Errorf("%s: %s", n.Path, n.Text)
		}
	}
	lines := map[string][]int{}
	for _, f := range res.Findings {
		if f.Rule == r.ID {
			lines[f.Location.Path] = append(lines[f.Location.Path], f.Location.Line)
		}
	}
	for _, l := range lines {
		slices.Sort(l)
	}
	return lines, nil
}

func write(folder, seed string, f rule.File, makers map[string]Maker) error {
	name, data := f.Path, Expand(seed, f.Data)
	if make := makers[path.Ext(name)]; make != nil {
		var err error
		if data, err = make(data); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		name = strings.TrimSuffix(name, path.Ext(name))
	}
	local, err := filepath.Localize(name) // what is a name in a rule may be a way out on this system
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	file := filepath.Join(folder, local)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

var placeholder = pattern.New(`\$\{(alnum|hex|digit):(\d{1,4})\}`)

var alphabets = map[string]string{
	"alnum": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	"hex":   "0123456789abcdef",
	"digit": "0123456789",
}

// Expand replaces ${alnum:N}, ${hex:N} and ${digit:N} by N characters that look
// random but depend only on seed, so that no rule's file has to hold a text
// that looks like a live credential.
func Expand(seed string, data []byte) []byte {
	h := fnv.New64a()
	h.Write([]byte(seed))
	rnd := rand.New(rand.NewPCG(h.Sum64(), 1))
	return placeholder.ReplaceAllFunc(data, func(m []byte) []byte {
		sub := placeholder.FindSubmatch(m)
		n, _ := strconv.Atoi(string(sub[2]))
		alphabet := alphabets[string(sub[1])]
		out := make([]byte, n)
		for i := range out {
			out[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return out
	})
}
