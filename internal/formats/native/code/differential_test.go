package code_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native"
	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A listing is what objdump reads in the code of a file.
type listing struct {
	at       map[uint64]bool   // where instructions begin
	calls    map[uint64]uint64 // direct calls, to where
	operands map[uint64]operand
	syscalls map[uint64]bool
}

// An operand is a place in memory that an instruction names relative to itself.
type operand struct {
	mnemonic string
	addr     uint64
}

var (
	line      = regexp.MustCompile(`^\s*([0-9a-f]+):\t(?:(?:data16|addr32|cs|ds|es|bnd|notrack|rex\.[WRXB]+|rex) )*(\S+)(?:\s+(.*))?$`)
	direct    = regexp.MustCompile(`^(?:0x)?([0-9a-f]+)(?: |$)`)
	commented = regexp.MustCompile(`# (?:0x)?([0-9a-f]+)`)
)

// disassemble runs objdump, which decodes one instruction after the other, and
// so errs where data stands among the code.
func disassemble(t *testing.T, path string) *listing {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "objdump"), "-d", "--no-show-raw-insn", path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("objdump %s: %v", path, err)
	}
	l := &listing{map[uint64]bool{}, map[uint64]uint64{}, map[uint64]operand{}, map[uint64]bool{}}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		m := line.FindSubmatch(s.Bytes())
		if m == nil {
			continue
		}
		addr := parseHex(m[1])
		l.at[addr] = true
		switch mnemonic := string(m[2]); mnemonic {
		case "call":
			if d := direct.FindSubmatch(m[3]); d != nil {
				l.calls[addr] = parseHex(d[1])
			}
			fallthrough
		case "lea", "jmp":
			if d := commented.FindSubmatch(m[3]); d != nil && bytes.Contains(m[3], []byte("(%rip)")) {
				l.operands[addr] = operand{mnemonic, parseHex(d[1])}
			}
		case "syscall":
			l.syscalls[addr] = true
		}
	}
	return l
}

func parseHex(b []byte) uint64 {
	n, _ := strconv.ParseUint(string(b), 16, 64)
	return n
}

// TestObjdump compares direct calls, calls through slots, addresses and system
// calls with objdump on binaries of the system and of compilers.
func TestObjdump(t *testing.T) {
	tool(t, "objdump")
	files := systemFiles(24)
	files = append(files, mingwPrograms(t)...)
	if len(files) < 20 {
		t.Skipf("only %d binaries on this system", len(files))
	}
	var all score
	for _, path := range files {
		s := compare(t, path)
		if s.calls.found < 95*s.calls.all/100 {
			t.Errorf("%s: %d of %d direct calls", path, s.calls.found, s.calls.all)
		}
		if s.false > max(2, s.refs/200) {
			t.Errorf("%s: %d of %d references are at no instruction", path, s.false, s.refs)
		}
		all.add(s)
	}
	t.Logf("%d files: direct calls %v; through slots %v; addresses %v; system calls %v; %d of %d references at no instruction; %d of %d calls elsewhere than objdump says",
		len(files), all.calls, all.slots, all.leas, all.syscalls, all.false, all.refs, all.wrong, all.calls.found)
	for _, c := range []struct {
		what  string
		got   recall
		least float64
	}{{"direct calls", all.calls, 0.98}, {"calls through slots", all.slots, 0.99}, {"addresses", all.leas, 0.99}, {"system calls", all.syscalls, 0.95}} {
		if float64(c.got.found) < c.least*float64(c.got.all) {
			t.Errorf("%s: %v; want %.3f", c.what, c.got, c.least)
		}
	}
	if float64(all.false) > 0.005*float64(all.refs) || float64(all.wrong) > 0.005*float64(all.calls.found) {
		t.Errorf("%d of %d references are at no instruction, %d of %d calls lead elsewhere", all.false, all.refs, all.wrong, all.calls.found)
	}
}

type recall struct{ found, all int }

func (r *recall) count(found bool) {
	r.all++
	if found {
		r.found++
	}
}

type score struct {
	calls, slots, leas, syscalls recall
	wrong                        int // calls to another place
	refs, false                  int // references, and those at no instruction
}

func (s *score) add(o score) {
	for _, p := range []struct{ to, from *recall }{{&s.calls, &o.calls}, {&s.slots, &o.slots}, {&s.leas, &o.leas}, {&s.syscalls, &o.syscalls}} {
		p.to.found += p.from.found
		p.to.all += p.from.all
	}
	s.wrong += o.wrong
	s.refs += o.refs
	s.false += o.false
}

func compare(t *testing.T, path string) (s score) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	images, _ := native.Parse(data)
	if len(images) != 1 {
		t.Fatalf("%s: %d images", path, len(images))
	}
	l := disassemble(t, path)
	m := images[0].Image
	c := code.Read(m)
	refs := map[uint64]code.Ref{}
	for _, r := range c.Refs {
		refs[r.Addr] = r
		s.refs++
		if !l.at[r.Addr] && !l.at[r.Addr+1] { // objdump may list a prefix on its own
			s.false++
		}
	}
	known := map[uint64]bool{}
	stubs := map[uint64]uint64{}
	for _, f := range c.Functions {
		known[f.Addr] = true
	}
	slots := map[uint64]bool{}
	for _, imp := range m.Imports {
		slots[imp.Slot] = true
	}
	for _, e := range m.Exports {
		stubs[e.Stub] = e.Addr
	}
	for addr, to := range l.calls {
		if m.At(to) == nil || to == addr+5 { // data that was decoded as a call, or code that asks for its own address
			continue
		}
		r, ok := refs[addr]
		s.calls.count(ok && r.Kind == code.Call)
		if ok && r.Import < 0 && r.Target != to && stubs[to] != r.Target {
			s.wrong++
		}
	}
	for addr, o := range l.operands {
		r, ok := refs[addr]
		switch {
		case o.mnemonic != "lea" && slots[o.addr] && o.addr != 0:
			if o.mnemonic == "call" {
				s.slots.count(ok && r.Kind == code.Call && r.Import >= 0)
			}
		case o.mnemonic == "lea" && (known[o.addr] || isData(m, o.addr)):
			s.leas.count(ok && (r.Target == o.addr || r.Import >= 0 || stubs[o.addr] == r.Target))
		}
	}
	calls := map[uint64]bool{}
	for _, call := range c.Syscalls {
		calls[call.Addr] = true
	}
	for addr := range l.syscalls {
		s.syscalls.count(calls[addr])
	}
	return s
}

func isData(m *image.Image, addr uint64) bool {
	for _, s := range m.Sections {
		if s.Addr != 0 && addr >= s.Addr && addr-s.Addr < s.Size {
			return !s.Code
		}
	}
	return false
}

// systemFiles returns n ELF files of the system for x86-64, of different sizes.
func systemFiles(n int) []string {
	type file struct {
		path string
		size int64
	}
	var list []file
	seen := map[int64]bool{}
	for _, pattern := range []string{"/usr/bin/*", "/usr/lib/x86_64-linux-gnu/*.so*", "/usr/sbin/*"} {
		paths, _ := filepath.Glob(pattern)
		for _, p := range paths {
			info, err := os.Lstat(p)
			const smallest, largest = 30 << 10, 400 << 10
			if err != nil || !info.Mode().IsRegular() || info.Size() < smallest || info.Size() > largest || seen[info.Size()] {
				continue
			}
			head := make([]byte, 20)
			if f, err := os.Open(p); err == nil {
				_, err = f.Read(head)
				f.Close()
				if err == nil && bytes.HasPrefix(head, []byte("\x7fELF\x02")) && head[18] == 62 {
					seen[info.Size()] = true
					list = append(list, file{p, info.Size()})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b file) int { return int(a.size - b.size) })
	var out []string
	for i := range n {
		if len(list) >= n {
			out = append(out, list[i*len(list)/n].path)
		}
	}
	return out
}

// mingwPrograms links programs for Windows, with a C library in them.
func mingwPrograms(t *testing.T) []string {
	const source = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
static int order(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }
int main(int n, char **v) {
	qsort(v, n, sizeof *v, order);
	for (int i = 0; i < n; i++) printf("%s %f %p\n", v[i], pow(n, i), malloc(i));
	return atoi(v[0]);
}
`
	var out []string
	dir := t.TempDir()
	file := filepath.Join(dir, "p.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, compiler := range []string{"x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc"} {
		path, err := exec.LookPath(compiler)
		if err != nil {
			continue
		}
		for _, level := range []string{"-O0", "-O2"} {
			exe := filepath.Join(dir, compiler+level+".exe")
			run(t, path, level, file, "-o", exe)
			out = append(out, exe)
		}
	}
	return out
}
