package macho_test

import (
	"slices"
	"strings"
	"testing"
)

// library builds a two-level dylib with a pointer section of 32 pointers at
// 0x8000 and data of 32 pointers behind it at 0x9000, whose content is given.
func library(wide bool, cpu uint32, pointers, data []byte) *build {
	b := &build{wide: wide, cpu: cpu, kind: 6, flags: 0x80}
	off := b.put(append(slices.Concat(pointers, make([]byte, 0x1000-len(pointers))), data...))
	b.segment("__TEXT", 0x4000, 0x1000, 0, blobs, 5)
	b.segment("__DATA", 0x8000, 0x2000, uint(off), 0x1000+uint(len(data)), 3,
		sect{name: "__got", segment: "__DATA", addr: 0x8000, size: 0x100, off: off, flags: 6},
		sect{name: "__data", segment: "__DATA", addr: 0x9000, size: uint(len(data)), off: off + 0x1000})
	b.dylib(0xc, "/usr/lib/libA.dylib")
	b.dylib(0x8000001f, "/usr/lib/libB.dylib")
	return b
}

func (b *build) dyldInfo(bind, weak, lazy, trie []byte) {
	values := []any{uint32(0), uint32(0)}
	for _, part := range [][]byte{bind, weak, lazy, trie} {
		values = append(values, b.put(part), uint32(len(part)))
	}
	b.command(0x80000022, values...)
}

func TestBindOpcodes(t *testing.T) {
	b := library(true, cpuX64, nil, make([]byte, 0x100))
	bind := slices.Concat(
		[]byte{0x11, 0x40}, []byte("_one\x00"), []byte{0x51, 0x71}, uleb(0), []byte{0x90}, // libA at 0x8000
		[]byte{0x20}, uleb(2), []byte{0x41}, []byte("_two\x00"), []byte{0xa0}, uleb(8), // libB at 0x8008, weak; then 8 more
		[]byte{0x3e, 0x40}, []byte("_flat\x00"), []byte{0xb1}, // flat at 0x8018; then 1 pointer more
		[]byte{0x3f, 0x40}, []byte("_main\x00"), []byte{0x60, 0x7f, 0x80}, uleb(0x10), []byte{0x90}, // main executable at 0x8038, behind an addend
		[]byte{0x12, 0x40}, []byte("_many\x00"), []byte{0x71}, uleb(0x1000), []byte{0xc0}, uleb(3, 8), // libB, three times in data
		[]byte{0x12, 0x40}, []byte("_outside\x00"), []byte{0x79}, uleb(0), []byte{0x90}, // in no segment
		[]byte{0x00, 0x90}, // the end, and what lies behind it
	)
	weak := slices.Concat([]byte{0x40}, []byte("__Znwm\x00"), []byte{0x51, 0x71}, uleb(0x40), []byte{0x90, 0x40}, []byte("_own\x00"), []byte{0x90, 0x48}, []byte("_unused\x00"), []byte{0x00})
	lazy := slices.Concat([]byte{0x71}, uleb(0x80), []byte{0x11, 0x40}, []byte("_lazy\x00"), []byte{0x90, 0x00, 0x71}, uleb(0x88), []byte{0x12, 0x40}, []byte("_two\x00"), []byte{0x90, 0x00})
	b.dyldInfo(bind, weak, lazy, nil)
	b.symtab(nil, sym{name: "_own", kind: 0x0f, sect: 2, desc: 0x80, value: 0x9000}, sym{name: "_one", kind: 0x01, desc: 0x0100}, sym{name: "_unbound", kind: 0x01, desc: 0x0200})
	m := one(t, b.bytes())
	equal(t, "imports", imports(m), []string{
		"one /usr/lib/libA.dylib 0x8000 0x0",
		"unbound /usr/lib/libB.dylib 0x0 0x0",
		"two /usr/lib/libB.dylib 0x8008 0x0 +0x8088 weak",
		"flat flat-namespace 0x8018 0x0",
		"main main-executable 0x8038 0x0",
		"many /usr/lib/libB.dylib 0x9000 0x0 +0x9010 +0x9020",
		"outside /usr/lib/libB.dylib 0x0 0x0",
		"lazy /usr/lib/libA.dylib 0x8080 0x0",
		"_Znwm weak 0x8040 0x0",
	})
	if len(m.Notes) > 0 {
		t.Errorf("notes %q", m.Notes)
	}
}

// TestBindWithoutEnd binds more often than a file can have pointers.
func TestBindWithoutEnd(t *testing.T) {
	b := library(true, cpuX64, nil, make([]byte, 0x100))
	b.dyldInfo(slices.Concat([]byte{0x11, 0x40}, []byte("_a\x00"), []byte{0x71}, uleb(0), []byte{0xc0}, uleb(1<<63, 1<<64-8)), nil, nil, nil)
	m := one(t, b.bytes())
	if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "more fixups") {
		t.Errorf("notes %q; want one on too many fixups", m.Notes)
	}
}

// TestThreadedBinds reads arm64e's chains from before chained fixups.
func TestThreadedBinds(t *testing.T) {
	pointer := (&build{}).pack
	got := slices.Concat(
		pointer(uint64(1<<62|1<<51|1)),          // bind 1, the next is 8 bytes on
		pointer(uint64(2<<51|0x1234)),           // a rebase, the next is 16 bytes on
		pointer(uint64(1<<62)),                  // not in the chain
		pointer(uint64(1<<63|1<<62|0xbeef<<32)), // signed bind 0, the last
	)
	b := library(true, cpuARM64, got, make([]byte, 8))
	b.dyldInfo(slices.Concat(
		[]byte{0xd0}, uleb(2), []byte{0x11, 0x40}, []byte("_zero\x00"), []byte{0x90, 0x12, 0x40}, []byte("_one\x00"), []byte{0x90, 0x71}, uleb(0), []byte{0xd1, 0x00},
	), nil, nil, nil)
	m := one(t, b.bytes())
	equal(t, "imports", imports(m), []string{"zero /usr/lib/libA.dylib 0x8018 0x0", "one /usr/lib/libB.dylib 0x8000 0x0"})
}

// chains builds LC_DYLD_CHAINED_FIXUPS with starts for the second segment.
func chains(b *build, importFormat, count uint32, table []byte, names string, pointerFormat uint16, pageStarts ...uint16) []byte {
	const starts = 32
	segment := b.pack(uint32(22+2*len(pageStarts)), uint16(0x1000), pointerFormat, uint64(0x4000), uint32(0), uint16(2))
	for _, s := range pageStarts {
		segment = append(segment, b.pack(s)...)
	}
	imports := uint32(starts + 12 + len(segment))
	out := b.pack(uint32(0), uint32(starts), imports, imports+uint32(len(table)), count, importFormat, uint32(0), uint32(0))
	out = append(out, b.pack(uint32(2), uint32(0), uint32(12), segment)...)
	return append(append(out, table...), names...)
}

func TestChainedFixups(t *testing.T) {
	pack := (&build{wide: true}).pack
	const names = "\x00_one\x00_two\x00_weak\x00" // at 1, 6, 11
	small := pack(uint32(1|1<<9), uint32(2|6<<9), uint32(0xfd|1<<8|11<<9))
	addend := pack(uint32(1|1<<9), uint32(5), uint32(2|6<<9), uint32(0), uint32(0xfd|1<<8|11<<9), uint32(0))
	large := pack(uint64(1|1<<32), uint64(5), uint64(2|6<<32), uint64(0), uint64(0xfffd|1<<16|11<<32), uint64(0))
	bind64 := slices.Concat(pack(uint64(1<<63|2<<51)), pack(uint64(4<<51|0x4000)), make([]byte, 8), pack(uint64(1<<63|0x7f<<24|1)))
	auth := slices.Concat(pack(uint64(1<<62|1<<51)), pack(uint64(2<<51|0x4000)), make([]byte, 8), pack(uint64(3<<62|0xffff<<32|1)))
	stride4 := slices.Concat(pack(uint64(1<<62|2<<51)), pack(uint64(4<<51|0x4000)), make([]byte, 8), pack(uint64(3<<62|0xffff<<32|1)))
	user24 := slices.Concat(pack(uint64(1<<62|1<<51)), pack(uint64(2<<51|0x4000)), make([]byte, 8), pack(uint64(1<<62|0x7f<<32|1)))
	bind32 := pack(uint32(1<<31|1<<26), uint32(3<<26|0x4000), uint32(0), uint32(0), uint32(1<<31|5<<20|1))
	second := func(wide bool) []byte {
		if wide {
			return pack(uint64(1<<63 | 2))
		}
		return pack(uint32(1<<31 | 2))
	}
	want64 := []string{"one /usr/lib/libA.dylib 0x8000 0x0", "two /usr/lib/libB.dylib 0x8018 0x0", "weak weak 0x9000 0x0 weak"}
	want32 := []string{"one /usr/lib/libA.dylib 0x8000 0x0", "two /usr/lib/libB.dylib 0x8010 0x0", "weak weak 0x9000 0x0 weak"}
	signedSecond := pack(uint64(1<<62 | 2))
	for _, test := range []struct {
		name         string
		cpu          uint32
		imports      uint32
		table        []byte
		format       uint16
		first, other []byte
		starts       []uint16
		want         []string
	}{
		{"64, imports 1", cpuX64, 1, small, 2, bind64, second(true), []uint16{0, 0}, want64},
		{"64 offset, imports 2", cpuARM64, 2, addend, 6, bind64, second(true), []uint16{0, 0}, want64},
		{"64 offset, imports 3", cpuARM64, 3, large, 6, bind64, second(true), []uint16{0, 0}, want64},
		{"arm64e", cpuARM64, 1, small, 1, auth, signedSecond, []uint16{0, 0}, want64},
		{"arm64e userland", cpuARM64, 1, small, 9, auth, signedSecond, []uint16{0, 0}, want64},
		{"arm64e userland 24", cpuARM64, 1, small, 12, user24, signedSecond, []uint16{0, 0}, want64},
		{"arm64e kernel", cpuARM64, 1, small, 7, stride4, signedSecond, []uint16{0, 0}, want64},
		{"arm64e firmware", cpuARM64, 1, small, 10, stride4, signedSecond, []uint16{0, 0}, want64},
		{"32", cpuARM, 1, small, 3, bind32, second(false), []uint16{0, 0}, want32},
		{"32, several starts", cpuARM, 1, small, 3, pack(uint32(1<<31), uint32(0), uint32(0), uint32(0), uint32(1<<31|1)), second(false), []uint16{0x8002, 0, 0, 0x8010}, want32},
		{"page without fixups", cpuX64, 1, small, 2, bind64, nil, []uint16{0, 0xffff}, append(slices.Clone(want64[:2]), "weak weak 0x0 0x0 weak")},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := library(test.cpu != cpuARM, test.cpu, test.first, append(test.other, make([]byte, 16)...))
			b.linkedit(0x80000034, chains(b, test.imports, 3, test.table, names, test.format, test.starts...))
			m := one(t, b.bytes())
			equal(t, "imports", imports(m), test.want)
			if len(m.Notes) > 0 {
				t.Errorf("notes %q", m.Notes)
			}
		})
	}
	for _, test := range []struct {
		name, want string
		fixups     []byte
	}{
		{"rebase only", "", chains(&build{}, 1, 3, small, names, 8, 0, 0)},
		{"pointer format", "pointer format 99", chains(&build{}, 1, 3, small, names, 99, 0, 0)},
		{"import format", "imports of format 9", chains(&build{}, 9, 3, small, names, 2, 0, 0)},
		{"more imports than there are", "of 4294967295 imports", chains(&build{}, 1, 0xffff_ffff, small, names, 2, 0, 0)},
		{"pages missing", "of 2 pages", chains(&build{}, 1, 0, nil, "", 2, 0)},
		{"several starts without end", "bytes at offset", chains(&build{}, 1, 0, nil, "", 2, 0x8001, 1)},
		{"cut", "chained fixups: ", []byte{0, 0, 0, 0, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := library(true, cpuX64, bind64, make([]byte, 16))
			b.linkedit(0x80000034, test.fixups)
			m := one(t, b.bytes())
			if test.want == "" && len(m.Notes) > 0 || test.want != "" && !slices.ContainsFunc(m.Notes, func(n string) bool { return strings.Contains(n, test.want) }) {
				t.Errorf("notes %q; want one with %q", m.Notes, test.want)
			}
		})
	}
}

func TestExportTrie(t *testing.T) {
	// The root has two edges, "_a" to 15 and "_b" to 24; "_b" has one, "ig" to 30.
	trie := slices.Concat(
		[]byte{0, 3}, []byte("_a\x00"), uleb(18), []byte("_b\x00"), uleb(22), []byte("_r\x00"), uleb(29),
		[]byte{0}, // 14..17: padding that nothing points at
		[]byte{0, 0, 0},
		[]byte{2, 0}, uleb(0x10), []byte{0}, // 18: _a at 0x4010
		[]byte{0, 1}, []byte("ig\x00"), uleb(51), []byte{0}, // 22: _b…
	)
	if len(trie) != 29 {
		t.Fatalf("trie is of %d bytes", len(trie))
	}
	trie = slices.Concat(trie,
		[]byte{8, 8, 2}, []byte("_impl\x00"), []byte{3}, // 29: _r from libB, with three edges
		[]byte("x\x00"), uleb(57), []byte("y\x00"), uleb(62), []byte("z\x00"), uleb(18), // _rz leads to _a's node
		[]byte{0, 0, 0},
	)
	if len(trie) != 51 {
		t.Fatalf("trie is of %d bytes", len(trie))
	}
	trie = slices.Concat(trie,
		[]byte{4, 0x14}, uleb(0x20, 0x18), []byte{0, 0}, // 51: _big, weak, with a resolver
		[]byte{3, 2}, uleb(0x1234), []byte{0}, // 57: _rx, absolute
		[]byte{3, 8, 1, 0, 0}, // 62: _ry from libA under its own name
	)
	want := []string{
		"a 0x4010 true",
		"big 0x4020 true",
		"r 0x0 false /usr/lib/libB.dylib.impl",
		"rx 0x1234 true",
		"ry 0x0 false /usr/lib/libA.dylib.ry",
	}
	for _, name := range []string{"in the dyld info", "of its own"} {
		t.Run(name, func(t *testing.T) {
			b := library(true, cpuX64, nil, make([]byte, 8))
			if name == "of its own" {
				b.linkedit(0x80000033, trie)
			} else {
				b.dyldInfo(nil, nil, nil, trie)
			}
			b.symtab(nil, sym{name: "_not_in_the_trie", kind: 0x0f, sect: 2, value: 0x9000})
			m := one(t, b.bytes())
			equal(t, "exports", exports(m), want)
			if len(m.Notes) != 1 || !strings.Contains(m.Notes[0], "two parents") {
				t.Errorf("notes %q; want one on the node with two parents", m.Notes)
			}
		})
	}
}

// TestExportTrieWithoutEnd has a chain of long names, which grow with the
// square of its length, and a root that is its own child.
func TestExportTrieWithoutEnd(t *testing.T) {
	var chain []byte
	edge := strings.Repeat("x", 200)
	for range 20_000 {
		next := uint64(len(chain)) + 2 + 201 + 5
		chain = append(append(chain, 0, 1), edge...)
		chain = append(chain, 0)
		chain = append(chain, byte(next)|0x80, byte(next>>7)|0x80, byte(next>>14)|0x80, byte(next>>21)|0x80, byte(next>>28))
	}
	for _, test := range []struct {
		name, want string
		trie       []byte
	}{
		{"long", "too long", chain},
		{"cycle", "two parents", []byte{0, 1, 'a', 0, 0}},
		{"outside", "outside", []byte{0, 1, 'a', 0, 99}},
		{"cut", "node at 0x0", []byte{0, 2, 'a', 0, 99}},
	} {
		b := library(true, cpuX64, nil, make([]byte, 8))
		b.linkedit(0x80000033, test.trie)
		if m := one(t, b.bytes()); len(m.Notes) == 0 || !strings.Contains(strings.Join(m.Notes, "\n"), test.want) {
			t.Errorf("%s: notes %q; want one with %q", test.name, m.Notes, test.want)
		}
	}
}
