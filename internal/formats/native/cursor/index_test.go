package cursor_test

import (
	"bytes"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// TestIndex puts a mark at every place around those where a search goes on.
func TestIndex(t *testing.T) {
	const step = 1 << 20
	mark := []byte("mark")
	data := make([]byte, 2*step+100)
	for _, around := range []int{0, step, 2 * step, len(data)} {
		for at := max(0, around-8); at < around+8 && at+len(mark) <= len(data); at++ {
			clear(data)
			copy(data[at:], mark)
			if got := cursor.Index(data, mark); got != at {
				t.Errorf("Index finds the mark of %d at %d", at, got)
			}
			if got := cursor.IndexByte(data, 'k'); got != at+3 {
				t.Errorf("IndexByte finds the byte of %d at %d", at+3, got)
			}
		}
	}
	for _, test := range []struct{ data, mark string }{{"", ""}, {"a", ""}, {"", "a"}, {"b", "a"}, {"a", "aa"}, {"ba", "a"}} {
		if got, want := cursor.Index([]byte(test.data), []byte(test.mark)), bytes.Index([]byte(test.data), []byte(test.mark)); got != want {
			t.Errorf("Index(%q, %q) = %d; want %d", test.data, test.mark, got, want)
		}
	}
	if got := cursor.IndexByte(nil, 0); got != -1 {
		t.Errorf("IndexByte of nothing = %d", got)
	}
}
