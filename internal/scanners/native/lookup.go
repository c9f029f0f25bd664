package native

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// asking are the functions that return the address of another by its name, and
// which argument the name is, counted from 0.
var asking = map[string]int{
	"dlsym": 1, "dlvsym": 1, "dlfunc": 1, "uv_dlsym": 1, "g_module_symbol": 1, "SDL_LoadFunction": 1,
	"GetProcAddress": 1, "NSLookupAndBindSymbol": 0, "NSIsSymbolNameDefined": 0, "NSLookupSymbolInModule": 1, "NSLookupSymbolInImage": 1,
	"objc_getClass": 0, "objc_lookUpClass": 0, "NSClassFromString": 0,
}

// calling reports whether a library function makes the system call of which it
// is given the number.
func calling(name string) bool { return name == "syscall" || name == "__syscall" }

// maxAsked bounds the functions whose instructions are followed for names that
// they ask for.
const maxAsked = 2000

// lookups returns the names that own code asks the loader for while it runs, and
// the system calls that it makes through the library function for them.
func (p *program) lookups(table []imported) []imported {
	found := map[string]*imported{}
	add := func(name, shown string, from source, at uint64) {
		one := found[shown]
		if one == nil {
			one = &imported{name: name, shown: shown, source: from, used: true}
			found[shown] = one
		}
		one.own = append(one.own, at)
	}
	asked := 0
	for i := range table {
		arg, asks := asking[table[i].name]
		calls := calling(table[i].name)
		if !asks && !calls {
			continue
		}
		for _, site := range p.sites(i, table[i].own) {
			if asked++; asked > maxAsked || p.stopped() {
				break
			}
			for _, v := range p.values.Through(site, arg) {
				at := cmp.Or(v.From, site)
				switch {
				case !p.isOwn(at):
				case calls && v.Kind == value.Const:
					if name := p.SyscallName(int(v.Const)); name != "" {
						add(cmp.Or(sameAs[name], name), name, fromKernel, at)
					}
				case asks && (v.Kind == value.String || v.Kind == value.Stack) && isName(v.Text):
					name := v.Text
					if strings.HasPrefix(table[i].name, "NSL") || strings.HasPrefix(table[i].name, "NSIs") {
						name = strings.TrimPrefix(name, "_") // as symbols of Mach-O have it
					}
					if strings.Contains(strings.ToLower(table[i].name), "class") {
						name = "OBJC_CLASS_$_" + name
					}
					add(name, name, fromLookup, at)
				}
			}
		}
	}
	var out []imported
	for _, one := range found {
		slices.Sort(one.own)
		one.own = slices.Compact(one.own)
		out = append(out, *one)
	}
	slices.SortFunc(out, func(a, b imported) int { return cmp.Compare(a.shown, b.shown) })
	return out
}

// sites returns where an import is called in the functions that make use of it:
// compilers load the address of a function that is called often into a register
// first.
func (p *program) sites(imp int, uses []uint64) []uint64 {
	var out []uint64
	loads := map[int]bool{} // by function: whether it does more with the import than to call it
	for _, at := range uses {
		fn := p.Func(at)
		if fn < 0 {
			continue
		}
		more, seen := loads[fn]
		if !seen {
			if len(loads) == maxAsked {
				continue
			}
			more = slices.ContainsFunc(p.From(fn), func(r code.Ref) bool {
				return int(r.Import) == imp && r.Kind != code.Call && r.Kind != code.Jump
			})
			loads[fn] = more
		}
		switch {
		case !more:
			out = append(out, at)
		case !seen:
			out = append(out, p.followed(fn, imp, at)...)
		}
	}
	return out
}

// followed returns where a function calls an import that it makes use of at a
// place first, by any way.
func (p *program) followed(fn, imp int, first uint64) []uint64 {
	var out []uint64
	steps, whole := p.values.Steps(fn)
	for i := range steps {
		if s := &steps[i]; (s.Flow == value.Call || s.Flow == value.Tail) && s.Callee.Kind == value.Import && s.Callee.Import == imp {
			out = append(out, s.Addr)
		}
	}
	if !whole { // too long to follow: the places themselves
		out = append(out, first)
	}
	return out
}

// isName reports whether a text can be the name of a function.
func isName(s string) bool {
	if len(s) < 2 || len(s) > finding.MaxEvidence {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_$@?.", r))
	})
}
