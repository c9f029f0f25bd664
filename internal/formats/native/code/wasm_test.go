package code_test

import (
	"bufio"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/code"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A line of wasm-objdump that calls or names a function.
var wasmCall = regexp.MustCompile(`^ ([0-9a-f]+): [0-9a-f ]+\|\s+(call|return_call|ref\.func) (\d+)(?: |$)`)

// compareWasm compares with what wasm-objdump shows of a file, and returns the
// number of references that it shows.
func compareWasm(t *testing.T, path string) int {
	t.Helper()
	c := read(t, path)
	type place struct {
		at   uint64
		kind code.Kind
		to   uint64
	}
	number := map[uint64]uint64{} // of functions, by address
	if len(c.Image.Modules) != 1 {
		t.Fatalf("%d modules", len(c.Image.Modules))
	}
	imported := c.Image.Modules[0].Imported
	for i, f := range c.Image.Functions.List {
		number[f.Addr] = uint64(len(imported) + i)
	}
	found := map[place]bool{}
	for _, r := range c.Refs {
		to := number[r.Target]
		if r.Import >= 0 {
			to = uint64(slices.Index(imported, r.Import))
		}
		if r.Kind != code.Data {
			found[place{r.Addr, r.Kind, to}] = true
		}
	}
	want := map[place]bool{}
	lines := bufio.NewScanner(strings.NewReader(cross(t, "", "wasm-objdump", "-d", path)))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		f := wasmCall.FindStringSubmatch(lines.Text())
		if f == nil {
			continue
		}
		at, _ := strconv.ParseUint(f[1], 16, 64)
		to, _ := strconv.ParseUint(f[3], 10, 64)
		want[place{at, map[string]code.Kind{"call": code.Call, "return_call": code.Jump, "ref.func": code.Taken}[f[2]], to}] = true
	}
	wrong := 0
	for p := range want {
		if !found[p] {
			if wrong++; wrong < 8 {
				t.Errorf("missed: %+v", p)
			}
		}
	}
	for p := range found {
		if !want[p] {
			if wrong++; wrong < 8 {
				t.Errorf("not there: %+v", p)
			}
		}
	}
	return len(want)
}

const wasmProgram = `
typedef unsigned long size;
int connect(int, const void *, unsigned) __attribute__((import_module("env"), import_name("connect")));
static const char *const words[] = {"one word", "another word", "a third"};
const char text[] = "text that is referred to";
int counts[16] = {1, 2, 3};
__attribute__((noinline)) int leaf(int n) { return counts[n & 15] += n; }
int (*volatile chosen)(int);
__attribute__((noinline)) int weigh(const char *s) { int n = 0; while (*s) n += leaf(*s++); return n; }
int ends(int n) { return connect(n, text, sizeof text); }
__attribute__((export_name("start"))) int start(int n) {
	for (int i = 0; i < 3; i++) n += weigh(words[i]) + connect(i, 0, 64);
	chosen = leaf;
	switch (n) { case 0: n = ends(2); break; case 1: n = 7; break; case 2: n = counts[3]; break; case 3: n = counts[5]; break; }
	return n + weigh(text) + chosen(n);
}
`

// TestWasmCompiled looks for what a program is known to refer to.
func TestWasmCompiled(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p.c", wasmProgram)
	for _, flags := range [][]string{{"-O0"}, {"-O2"}, {"-O2", "-mtail-call", "-mbulk-memory", "-msimd128"}, {"-O2", "-matomics", "-mbulk-memory"}} {
		name := strings.Join(flags, "")
		t.Run(name, func(t *testing.T) {
			cross(t, dir, "clang-16", append(flags, "-target", "wasm32-unknown-unknown", "-ffreestanding", "-c", "p.c", "-o", "p.o")...)
			link := []string{"--no-entry", "--export-all", "p.o", "-o", "p.wasm"}
			if slices.Contains(flags, "-matomics") { // its data is put into memory by instructions
				link = append(link, "--shared-memory", "--max-memory=1048576")
			}
			cross(t, dir, "wasm-ld-16", link...)
			path := filepath.Join(dir, "p.wasm")
			if n := compareWasm(t, path); n < 6 {
				t.Errorf("%d references", n)
			}
			c := read(t, path)
			want := []string{"start calls connect", "start calls weigh", "weigh calls leaf", `ends data "text that is referred to"`}
			if name != "-O0" {
				want = append(want, `start data "one word"`, `start data "another word"`, `start data "text that is referred to"`)
			}
			if slices.Contains(flags, "-mtail-call") {
				want = append(want, "ends jumps connect")
			} else {
				want = append(want, "ends calls connect")
			}
			expectRefs(t, c, want...)
			i := slices.IndexFunc(c.Image.Exports, func(e image.Export) bool { return e.Name == "leaf" })
			if i < 0 || !slices.ContainsFunc(c.Image.Pointers, func(p image.Pointer) bool { return p.To == c.Image.Exports[i].Addr }) {
				t.Errorf("leaf is in no table: %+v", c.Image.Pointers)
			}
		})
	}
}

// wasmText has instructions of every shape, each sort before a call that is
// found only if the walk was not thrown off.
const wasmText = `(module
	(import "env" "out" (func $out (param i32)))
	(memory 1 1)
	(table $t 4 funcref)
	(table $u 4 externref)
	(tag $e (param i32))
	(global $g (mut i32) (i32.const 5))
	(data (i32.const 1024) "some text\00more text\00")
	(data $passive "passive text")
	(elem (i32.const 1) func $leaf $out)
	(elem $later funcref (ref.func $leaf) (ref.null func))
	(elem declare func $declared)
	(type $sig (func (param i32) (result i32)))
	(func $declared)
	(func $leaf (param i32) (result i32) (local i64 f32 f64 v128 funcref externref)
		(local.get 0))
	(func $start (local i32 i64 f32 f64 v128)
		(call $out (i32.const 1024))
		(block (loop (br_if 0 (i32.const 0)) (br_table 0 1 0 (local.get 0))))
		(if (i32.const 0) (then (call $out (i32.const 1034))) (else nop))
		(drop (block (result i32) (i32.const 7)))
		(drop (f32.const 1.5)) (drop (f64.const 2.5)) (drop (i64.const -5000000000))
		(call $out (i32.load offset=1024 (local.get 0)))
		(i64.store offset=8 align=4 (i32.const 1026) (i64.const 1024))
		(drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3)))
		(drop (memory.grow (memory.size)))
		(memory.init $passive (i32.const 2048) (i32.const 0) (i32.const 12))
		(data.drop $passive)
		(memory.copy (i32.const 0) (i32.const 0) (i32.const 0))
		(memory.fill (i32.const 0) (i32.const 0) (i32.const 0))
		(table.init $t $later (i32.const 0) (i32.const 0) (i32.const 0))
		(elem.drop $later)
		(table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 0))
		(drop (table.grow $t (ref.null func) (i32.const 0)))
		(drop (table.size $u))
		(table.fill $t (i32.const 0) (ref.func $declared) (i32.const 0))
		(table.set $t (i32.const 0) (table.get $t (i32.const 0)))
		(drop (i32.trunc_sat_f64_u (local.get 3)))
		(drop (ref.is_null (ref.null extern)))
		(call $out (i32.const 2048))
		(local.set 4 (v128.const i32x4 1 2 3 4))
		(local.set 4 (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 4) (local.get 4)))
		(local.set 4 (v128.load offset=16 (i32.const 0)))
		(v128.store (i32.const 0) (local.get 4))
		(local.set 4 (v128.load8_lane 3 (i32.const 0) (local.get 4)))
		(v128.store64_lane offset=4 1 (i32.const 0) (local.get 4))
		(local.set 4 (v128.load32_zero (i32.const 0)))
		(drop (i16x8.extract_lane_s 3 (local.get 4)))
		(local.set 4 (i32x4.replace_lane 2 (local.get 4) (i32.const 9)))
		(local.set 4 (i32x4.dot_i16x8_s (local.get 4) (local.get 4)))
		(call $out (i32.const 3))
		(atomic.fence)
		(drop (i32.atomic.load (i32.const 0)))
		(i64.atomic.store offset=8 (i32.const 0) (i64.const 5))
		(drop (i32.atomic.rmw.add (i32.const 0) (i32.const 5)))
		(drop (i64.atomic.rmw32.cmpxchg_u (i32.const 0) (i64.const 5) (i64.const 6)))
		(drop (memory.atomic.notify (i32.const 0) (i32.const 1)))
		(call $out (i32.const 4))
		(try (do (throw $e (i32.const 3))) (catch $e (drop)) (catch_all (rethrow 0)))
		(try (do (call $out (i32.const 8))) (delegate 0))
		(drop (call_indirect $t (type $sig) (i32.const 0) (i32.const 1)))
		(global.set $g (i32.add (global.get $g) (i32.const 1027)))
		(call $out (call $leaf (i32.const 1029)))
	)
	(func $tail (param i32) (result i32) (return_call $leaf (local.get 0)))
	(func $tails (param i32) (result i32) (return_call_indirect $t (type $sig) (local.get 0) (i32.const 1)))
	(start $start)
)`

// TestWasmInstructions walks over instructions of every shape.
func TestWasmInstructions(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "p.wat", wasmText)
	cross(t, dir, "wat2wasm", "--enable-threads", "--enable-exceptions", "--enable-tail-call", "--debug-names", "p.wat", "-o", "p.wasm")
	path := filepath.Join(dir, "p.wasm")
	c := read(t, path)
	calls := 0
	for _, r := range c.Refs {
		if r.Kind == code.Call && r.Import >= 0 {
			calls++
		}
	}
	if want := strings.Count(wasmText, "(call $out"); calls != want {
		t.Errorf("%d calls of the import, want %d", calls, want)
	}
	expectRefs(t, c, "start calls out", "start calls leaf", "start address declared", "tail jumps leaf",
		`start data "some text"`, `start data "more text"`, `start data "passive text"`, `start data "e text"`, `start data "text"`)
	if n := len(c.Image.Initializers); n != 1 {
		t.Errorf("%d initializers, want the start function", n)
	}
	if n := len(c.Image.Pointers); n != 2 { // of leaf, from both segments; out is imported
		t.Errorf("%d functions in tables, want 2: %+v", n, c.Image.Pointers)
	}
}
