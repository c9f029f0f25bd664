package pair_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/native/pair"
)

// fn makes a mark of a function of 64 bytes.
func fn(name string, body uint64, calls ...int32) inventory.Mark {
	return inventory.Mark{Name: name, Body: body, Size: 64, Calls: calls}
}

func TestFunctions(t *testing.T) {
	texts := func(m inventory.Mark, list ...uint32) inventory.Mark {
		m.Texts = list
		return m
	}
	imports := func(m inventory.Mark, list ...int32) inventory.Mark {
		m.Imports = list
		return m
	}
	sized := func(m inventory.Mark, size uint64) inventory.Mark {
		m.Size = size
		return m
	}
	for _, test := range []struct {
		name string
		a, b []inventory.Mark
		want []int32
	}{
		{"names", []inventory.Mark{fn("x", 1), fn("y", 2)}, []inventory.Mark{fn("y", 3), fn("x", 4)}, []int32{1, 0}},
		{"bodies", []inventory.Mark{fn("", 1), fn("", 2)}, []inventory.Mark{fn("", 2), fn("", 1)}, []int32{1, 0}},
		{"another name", []inventory.Mark{fn("x", 1), fn("y", 2)}, []inventory.Mark{fn("y", 2), fn("z", 1)}, []int32{1, 0}},
		{"other names and other bodies", []inventory.Mark{fn("x", 1)}, []inventory.Mark{fn("y", 2)}, []int32{-1}},
		{"texts", []inventory.Mark{texts(fn("", 1), 7), texts(fn("", 2), 8)}, []inventory.Mark{texts(fn("", 3), 8), texts(fn("", 4), 7)}, []int32{1, 0}},
		{"imports of one name", []inventory.Mark{imports(fn("", 1), 0, 1)}, []inventory.Mark{imports(fn("", 2), 1, 2), fn("", 3)}, []int32{0}},
		{"along calls", []inventory.Mark{fn("main", 1, 1, 2), fn("", 2), sized(fn("", 3), 900)}, []inventory.Mark{fn("main", 9, 2, 1), sized(fn("", 5), 910), fn("", 4)}, []int32{0, 2, 1}},
		{"between", []inventory.Mark{fn("a", 1), fn("", 2), fn("b", 3)}, []inventory.Mark{fn("a", 1), fn("", 8), fn("b", 3)}, []int32{0, 1, 2}},
		{"hash of Rust's names", []inventory.Mark{fn("_ZN1a1b17h0123456789abcdefE", 1)}, []inventory.Mark{fn("_ZN1a1b17hfedcba9876543210E", 2)}, []int32{0}},
		{"specialized", []inventory.Mark{fn("f.constprop.0", 1)}, []inventory.Mark{fn("f", 2)}, []int32{0}},
		{"nothing", nil, []inventory.Mark{fn("x", 1)}, []int32{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &inventory.Marks{Functions: test.a, Imports: []string{"connect", "send"}}
			b := &inventory.Marks{Functions: test.b, Imports: []string{"accept", "connect", "send"}}
			if got := pair.Functions(a, b); !slices.Equal(got, test.want) {
				t.Errorf("pairs %v; want %v", got, test.want)
			}
		})
	}
}

// TestMany pairs more functions than a search of each against all would bear.
func TestMany(t *testing.T) {
	const n = 100_000
	r := rand.New(rand.NewPCG(1, 1))
	a, b := &inventory.Marks{}, &inventory.Marks{}
	for range n {
		f := fn("", uint64(r.IntN(n/4)+1))
		for range r.IntN(4) {
			f.Calls = append(f.Calls, int32(r.IntN(n)))
		}
		a.Functions = append(a.Functions, f)
		f.Body += uint64(r.IntN(20) / 19) // one of twenty is edited
		b.Functions = append(b.Functions, f)
	}
	right := 0
	for i, j := range pair.Functions(a, b) {
		if int(j) == i {
			right++
		}
	}
	if share := float64(right) / n; share < 0.97 {
		t.Errorf("%.3f of the functions are found", share)
	}
}

// FuzzFunctions pairs marks that no reader makes: nobody is paired twice, and
// nothing panics.
func FuzzFunctions(f *testing.F) {
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08"), []byte("\x01\x02\x03\x04"))
	f.Add([]byte{}, []byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, b := raw(x), raw(y)
		of := pair.Functions(a, b)
		if len(of) != len(a.Functions) {
			t.Fatalf("%d of %d functions", len(of), len(a.Functions))
		}
		seen := map[int32]bool{}
		for _, j := range of {
			if j >= int32(len(b.Functions)) || j < -1 || j >= 0 && seen[j] {
				t.Fatalf("pairs %v", of)
			}
			seen[j] = true
		}
		for i, j := range pair.Functions(a, a) {
			if named := a.Functions[i].Name; named != "" && j >= 0 && a.Functions[j].Name != named {
				t.Fatalf("%q is paired with %q in the same binary", named, a.Functions[j].Name)
			}
		}
	})
}

// raw makes four bytes a function.
func raw(data []byte) *inventory.Marks {
	m := &inventory.Marks{Imports: []string{"a", "b"}}
	for ; len(data) >= 4; data = data[4:] {
		f := inventory.Mark{Body: uint64(data[0] & 7), Short: data[0]&8 > 0, Size: uint64(data[1]), Calls: []int32{int32(int8(data[2]))}, Texts: []uint32{uint32(data[3] & 3)}, Imports: []int32{int32(int8(data[3]))}}
		if data[1]&3 == 0 {
			f.Name = fmt.Sprint("f", data[1])
		}
		m.Functions = append(m.Functions, f)
	}
	return m
}
