package wasm_test

import (
	"slices"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// TestTables reads element segments of all eight kinds.
func TestTables(t *testing.T) {
	zero := "\x41\x00\x0b"
	elements := section(9, vec(
		"\x00"+zero+vec("\x02", "\x00", "\x03"),                                        // two bodies and an import
		"\x01\x00"+vec("\x04"),                                                         // passive
		"\x02\x01"+zero+"\x00"+vec("\x02"),                                             // of a table
		"\x03\x00"+vec("\x03"),                                                         // declared only
		"\x04"+zero+vec("\xd2\x03\x0b", "\xd0\x70\x0b"),                                // expressions
		"\x05\x70"+vec("\xd2\x04\x0b"),                                                 // passive
		"\x06\x00\x23\x00\x41\x05\x6a\x0b\x63\x70"+vec("\x23\x00\x0b", "\xd2\x02\x0b"), // a reference with what it refers to, an offset that is calculated
		"\x07\x70"+vec("\xd2\x03\x0b"),                                                 // declared only
		"\x00"+zero+vec("\x63"),                                                        // no such function
	))
	m := parse(t, module(elements))
	var got []uint64
	list := m.Functions.List
	for i, p := range m.Pointers {
		if i > 0 && m.Pointers[i-1].At >= p.At {
			t.Errorf("pointer at %#x behind %#x", p.At, m.Pointers[i-1].At)
		}
		if at := uint64(m.Data[p.At]); at != 0xd2 && at-2 != uint64(slices.IndexFunc(list, func(f image.Function) bool { return f.Addr == p.To })) {
			t.Errorf("the pointer at %#x is not where its function is named", p.At)
		}
		got = append(got, p.To)
	}
	body := func(n int) uint64 { return list[n-2].Addr }
	equal(t, "functions in tables", got, []uint64{body(2), body(3), body(4), body(2), body(3), body(4), body(2)})
	if len(m.Notes) > 0 {
		t.Errorf("notes %q", m.Notes)
	}
}

// TestMemory reads data segments of all kinds.
func TestMemory(t *testing.T) {
	data := section(11, vec(
		"\x00\x41\x80\x10\x0b"+text("second"),
		"\x00\x41\x80\x08\x0b"+text("first"),
		"\x01"+text("passive"),
		"\x02\x01\x41\x00\x0b"+text("of another memory"),
		"\x02\x00\x41\x80\x18\x0b"+text("third"),
	))
	m := parse(t, module(data))
	if len(m.Modules) != 1 {
		t.Fatalf("%d modules", len(m.Modules))
	}
	x := m.Modules[0]
	show := func(list []image.Segment) (out []string) {
		for _, s := range list {
			out = append(out, string(m.Data[s.Offset:s.Offset+s.FileSize]))
		}
		return out
	}
	equal(t, "memory", show(x.Memory), []string{"first", "second", "third"})
	equal(t, "passive data", show(x.Passive), []string{"", "", "passive", "", ""})
	var addrs []uint64
	for _, s := range x.Memory {
		addrs = append(addrs, s.Addr)
	}
	equal(t, "addresses", addrs, []uint64{1024, 2048, 3072})
	equal(t, "imported functions", x.Imported, []int32{0, 1})
	if x.Base != -1 || x.Code.Size != m.Section("code").Size {
		t.Errorf("base %d, code %+v", x.Base, x.Code)
	}

	m = parse(t, module(section(11, vec("\x00\x23\x03\x0b"+text("at a base"), "\x00\x23\x03\x41\x10\x6a\x0b"+text("behind it")))))
	x = m.Modules[0]
	equal(t, "data that counts from a global", show(x.Memory), []string{"at a base", "behind it"})
	if x.Base != 3 || x.Memory[1].Addr != 16 {
		t.Errorf("base %d, memory %+v", x.Base, x.Memory)
	}
	start := parse(t, module(section(8, "\x03")))
	equal(t, "initializers", start.Initializers, []uint64{start.Functions.List[1].Addr})
}
