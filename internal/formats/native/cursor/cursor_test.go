package cursor_test

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

func TestReads(t *testing.T) {
	data := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 0xe5, 0x8e, 0x26, 0x7f, 'h', 'i', 0}
	little, big := cursor.New(data, false), cursor.New(data, true)
	for _, test := range []struct {
		name      string
		got, want uint64
	}{
		{"little 16", uint64(little.U16()), 0x0201}, {"big 16", uint64(big.U16()), 0x0102},
		{"little 32", uint64(little.U32()), 0x06050403}, {"big 32", uint64(big.U32()), 0x03040506},
		{"little 8", uint64(little.U8()), 7}, {"big word", cursor.New(data, true).Word(true), 0x0102030405060708},
		{"little word", cursor.New(data, false).Word(false), 0x04030201},
		{"uleb", cursor.New(data, false).Seek(9).Uleb(), 624485}, {"sleb", uint64(-cursor.New(data, false).Seek(12).Sleb()), 1},
		{"offset after align", uint64(cursor.New(data, false).Skip(5).Align(4).Offset()), 8},
		{"rest", uint64(cursor.New(data, false).Skip(10).Len()), 6},
	} {
		if test.got != test.want {
			t.Errorf("%s: %#x; want %#x", test.name, test.got, test.want)
		}
	}
	if s := cursor.New(data, false).Seek(13).CString(10); s != "hi" {
		t.Errorf("CString = %q", s)
	}
}

func TestFirstFailureStays(t *testing.T) {
	c := cursor.New([]byte{1, 2}, false)
	if v := c.U32(); v != 0 || c.Err() == nil {
		t.Errorf("U32 of two bytes = %d, %v", v, c.Err())
	}
	first := c.Err()
	if v := c.U8(); v != 0 || c.Err() != first {
		t.Errorf("a read after the failure gives %d, %v", v, c.Err())
	}
	for name, c := range map[string]*cursor.Cursor{
		"seek":        cursor.New(nil, false).Seek(1),
		"huge skip":   cursor.New([]byte{1}, false).Skip(1 << 63),
		"long leb":    longLEB(),
		"open string": openString(),
	} {
		if c.Err() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func longLEB() *cursor.Cursor {
	c := cursor.New([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}, false)
	c.Uleb()
	return c
}

func openString() *cursor.Cursor {
	c := cursor.New([]byte("abc"), false)
	c.CString(10)
	return c
}

func TestSlice(t *testing.T) {
	data := []byte("abcdef")
	if b, whole := cursor.Slice(data, 2, 3); string(b) != "cde" || !whole {
		t.Errorf("Slice = %q, %v", b, whole)
	}
	if b, whole := cursor.Slice(data, 4, 1<<63); string(b) != "ef" || whole {
		t.Errorf("Slice over the end = %q, %v", b, whole)
	}
	if b, whole := cursor.Slice(data, 1<<63, 1); b != nil || whole {
		t.Errorf("Slice behind the end = %q, %v", b, whole)
	}
	if s, ok := cursor.String([]byte("ab\x00cd"), 3, 10); ok {
		t.Errorf("an open string was read: %q", s)
	}
	if s, ok := cursor.String([]byte("ab\x00cd"), 1, 10); s != "b" || !ok {
		t.Errorf("String = %q, %v", s, ok)
	}
}

// FuzzCursor follows a program of reads: none may leave the data.
func FuzzCursor(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, []byte("some bytes\x00\xff\x80"))
	f.Fuzz(func(t *testing.T, program, data []byte) {
		c := cursor.New(data, len(program)%2 == 0)
		for _, op := range program {
			n := uint64(op >> 4)
			switch op & 15 {
			case 0:
				c.U8()
			case 1:
				c.U16()
			case 2:
				c.U32()
			case 3:
				c.U64()
			case 4:
				c.Uleb()
			case 5:
				c.Sleb()
			case 6:
				c.CString(int(n))
			case 7:
				c.Bytes(n)
			case 8:
				c.Seek(n * n)
			case 9:
				c.Align(8)
			case 10:
				c.Skip(n << 60)
			}
			if c.Offset() < 0 || c.Offset() > len(data) || c.Len() != len(data)-c.Offset() {
				t.Fatalf("offset %d of %d", c.Offset(), len(data))
			}
		}
	})
}
