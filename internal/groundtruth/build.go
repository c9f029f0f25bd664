package groundtruth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/parallel"
)

// Options say what to build.
type Options struct {
	Share float64  // of the whole matrix, 0 to 1; what is left out is drawn evenly
	Only  []string // names of targets; none means all whose tools are there
	Keep  bool     // leave the sources beside the programs, in a folder "source"
}

// matrix returns every program that can be built, or an even share of them.
func matrix(o Options) []*program {
	var out []*program
	for _, t := range targets {
		if len(o.Only) > 0 && !slices.Contains(o.Only, t.name) || !t.there() {
			continue
		}
		for _, v := range Variants {
			var all []*program
			for i := range plan {
				if t.can(&plan[i], v) {
					all = append(all, each3(t, &plan[i], v)...)
				}
			}
			if v == Control {
				for n := range 4 {
					for _, p := range each3(t, nil, v) {
						p.seed ^= uint64(n) << 20 // which is in the name
						all = append(all, p)
					}
				}
			}
			rng := rand.New(rand.NewPCG(1, seed(t.name, string(v))))
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			n := int(float64(len(all))*o.Share + 0.999)
			out = append(out, all[:min(n, len(all))]...)
		}
	}
	return out
}

// each3 returns a program at every level of optimisation, with its symbols and
// without.
func each3(t *target, b *behavior, v Variant) []*program {
	var out []*program
	name := ""
	if b != nil {
		name = b.name
	}
	for _, opt := range []string{"O0", "O2", "Os"} {
		for _, stripped := range []bool{false, true} {
			p := &program{target: t, behavior: b, variant: v, opt: opt, stripped: stripped, seed: seed(t.name, name, string(v), opt)}
			if stripped {
				p.seed++
			}
			out = append(out, p)
		}
	}
	return out
}

func seed(parts ...string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(strings.Join(parts, "\x00")))
	return h.Sum64()
}

// file returns the name of a program below the corpus.
func (p *program) file() string {
	name := "nothing"
	if p.behavior != nil {
		name = strings.ReplaceAll(p.behavior.name, " ", "-")
	}
	kept := "symbols"
	if p.stripped {
		kept = "stripped"
	}
	return fmt.Sprintf("%s/%s/%s-%s-%s-%x", p.target.name, p.variant, name, p.opt, kept, p.seed&0xffffff)
}

// A built program is one with the C that it is made of.
type built struct {
	*program
	code    string
	externs []call
	err     error
}

// ErrNoTools says that no compiler is there to build anything with.
var ErrNoTools = errors.New("no compiler is there")

// Build writes programs into folder, which must exist, and returns what is
// known about each.
func Build(ctx context.Context, folder string, o Options) ([]Truth, error) {
	work := filepath.Join(folder, "source")
	list := matrix(o)
	if len(list) == 0 {
		return nil, ErrNoTools
	}
	programs := make([]built, len(list))
	parallel.For(len(list), func(i int) {
		code, externs := list[i].code()
		programs[i] = built{program: list[i], code: code, externs: externs}
	})
	stubs := map[*target]map[string]string{}
	var failed []error
	for _, t := range targets {
		var err error
		if stubs[t], err = t.stubs(ctx, work, programs); err != nil {
			return nil, err
		}
	}
	parallel.For(len(programs), func(i int) {
		p := &programs[i]
		p.err = p.build(ctx, folder, work, stubs[p.target])
	})
	truths := make([]Truth, 0, len(programs))
	good := make([]*built, 0, len(programs))
	for i := range programs {
		if err := programs[i].err; err != nil {
			failed = append(failed, err)
			continue
		}
		good = append(good, &programs[i])
		truths = append(truths, programs[i].truth())
	}
	if err := cmp.Or(errors.Join(failed[:min(len(failed), 8)]...), context.Cause(ctx)); err != nil {
		return nil, fmt.Errorf("%d programs could not be built: %w", len(failed), err)
	}
	if err := locate(ctx, folder, good, truths); err != nil {
		return nil, err
	}
	if !o.Keep {
		return truths, os.RemoveAll(work)
	}
	return truths, nil
}

// stubs makes what stands for the libraries of a target, and returns the files
// by library.
func (t *target) stubs(ctx context.Context, work string, programs []built) (map[string]string, error) {
	by := map[string]map[string]call{}
	for i := range programs {
		if programs[i].target != t || t.hosted || t.os == "wasi" {
			continue
		}
		for _, c := range programs[i].externs {
			if (c.library == "node" || c.library == "python") && t.os != "windows" {
				continue // their host defines them
			}
			if by[c.library] == nil {
				by[c.library] = map[string]call{}
			}
			by[c.library][c.name] = c
		}
	}
	out := map[string]string{}
	for library, set := range by {
		var calls []call
		for _, c := range set {
			calls = append(calls, c)
		}
		slices.SortFunc(calls, func(a, b call) int { return strings.Compare(a.name, b.name) })
		base := filepath.Join(work, t.name, "stub-"+library)
		ext := map[string]string{"linux": ".c", "windows": ".def", "darwin": ".tbd"}[t.os]
		if err := write(base+ext, t.stub(library, calls)); err != nil {
			return nil, err
		}
		switch t.os {
		case "linux":
			if err := run(ctx, append(append([]string{t.tool}, t.compile...), "-fPIC", "-o", base+".o", base+ext)); err != nil {
				return nil, err
			}
			if err := run(ctx, []string{t.link[0], "-shared", "-soname", t.fileName(library), "-o", base + ".so", base + ".o"}); err != nil {
				return nil, err
			}
			ext = ".so"
		case "windows":
			machine := map[string]string{"x86_64": "i386:x86-64", "x86": "i386", "aarch64": "arm64"}[t.arch]
			if err := run(ctx, []string{"llvm-dlltool-16", "-k", "-m", machine, "-d", base + ext, "-l", base + ".lib"}); err != nil {
				return nil, err
			}
			ext = ".lib"
		}
		out[library] = base + ext
	}
	return out, nil
}

func (p *built) build(ctx context.Context, folder, work string, stubs map[string]string) error {
	var imports []string
	for _, c := range p.externs {
		if stub := stubs[c.library]; stub != "" && !slices.Contains(imports, stub) {
			imports = append(imports, stub)
		}
	}
	out := filepath.Join(folder, filepath.FromSlash(p.file()))
	source := filepath.Join(work, filepath.FromSlash(p.file())+".c")
	if err := write(source, p.code); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return err
	}
	for _, args := range p.command(source, source+".o", out, imports) {
		if err := run(ctx, args); err != nil {
			return err
		}
	}
	if _, err := os.Stat(out); err != nil { // mingw adds an ending by itself
		return os.Rename(out+".exe", out)
	}
	return nil
}

func (p *program) truth() Truth {
	t := Truth{
		File: p.file(), Target: p.target.name, Compiler: strings.TrimSuffix(p.target.tool, "-16"), Opt: p.opt, Stripped: p.stripped,
		Variant: p.variant, Way: p.way, Reach: p.reach,
	}
	if b := p.behavior; b != nil {
		t.Behavior, t.Want, t.May, t.Rule = b.name, b.want, b.may, b.ruleOn(p.target.os)
		if p.variant == Encoded {
			t.May = append(slices.Clone(t.May), inventory.Obfuscation) // hiding is one
		}
	}
	return t
}

func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// run runs a tool, and returns what it said if it failed.
func run(ctx context.Context, args []string) error {
	_, err := output(ctx, args)
	return err
}

func output(ctx context.Context, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, said.String()[:min(said.Len(), 2000)])
	}
	return []byte(out.String()), nil
}
