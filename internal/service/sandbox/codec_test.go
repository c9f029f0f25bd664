package sandbox_test

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/service/sandbox"
)

type leaf struct {
	Name string
	On   bool
	Kind uint8
	At   time.Time
}

type tree struct {
	Text   string
	Small  int32
	Big    uint64
	Part   float64
	Bytes  []byte
	Words  []string
	Leaves []leaf
	One    *leaf
	More   []*tree
	Named  map[string][]leaf
	Pair   [2]string
}

func example() tree {
	return tree{
		Text: "a\xffb\x00", Small: -5, Big: math.MaxUint64, Part: 0.1, Bytes: []byte{1, 2}, Words: []string{"", "x"},
		Leaves: []leaf{{"l", true, 3, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}}, One: &leaf{},
		More: []*tree{{Text: "inner", Words: []string{}}}, Named: map[string][]leaf{"b": nil, "a": {{Name: "n"}}}, Pair: [2]string{"p", "q"},
	}
}

func TestCodecKeepsEverything(t *testing.T) {
	want := example()
	data, err := sandbox.Encode(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 { // maps have no order of their own
		again, err := sandbox.Encode(nil, example())
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("the same value gives other bytes (%v)", err)
		}
	}
	var got tree
	budget := int64(1 << 20)
	if err := sandbox.Decode(data, &got, &budget); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestCodecRefuses(t *testing.T) {
	if _, err := sandbox.Encode(nil, struct{ hidden int }{1}); err == nil {
		t.Error("a field that is not exported was written")
	}
	if _, err := sandbox.Encode(nil, struct{ F func() }{}); err == nil {
		t.Error("a function was written")
	}
	whole, err := sandbox.Encode(nil, example())
	if err != nil {
		t.Fatal(err)
	}
	decode := func(data []byte, v any, budget int64) error { return sandbox.Decode(data, v, &budget) }
	for n := range whole {
		if err := decode(whole[:n], new(tree), 1<<20); err == nil {
			t.Errorf("%d of %d bytes were enough", n, len(whole))
		}
	}
	if err := decode(append(bytes.Clone(whole), 0), new(tree), 1<<20); err == nil {
		t.Error("a byte too many was taken")
	}
	if err := decode(whole, new(tree), 100); err == nil {
		t.Error("a budget of 100 bytes was enough")
	}
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // a length that nothing follows
	for _, v := range []any{new(string), new([]byte), new([]tree), new(map[string]int), new(uint8)} {
		if err := decode(huge, v, math.MaxInt64); err == nil {
			t.Errorf("a huge %T was taken", v)
		}
	}
	if err := decode([]byte{2, 0}, new([]*leaf), 1<<20); err == nil {
		t.Error("a list of nothing was taken")
	}
	if err := decode([]byte{2}, new(bool), 1<<20); err == nil {
		t.Error("2 was taken for a bool")
	}
	nan, err := sandbox.Encode(nil, math.NaN())
	if err != nil {
		t.Fatal(err)
	}
	if err := decode(nan, new(float64), 1<<20); err == nil {
		t.Error("NaN was taken, which no JSON can hold")
	}
	year, err := sandbox.Encode(nil, time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	if err := decode(year, new(time.Time), 1<<20); err == nil {
		t.Error("the year 20000 was taken, which no JSON can hold")
	}
	deep := bytes.Repeat([]byte{1, 2}, 1000)
	type nest struct{ In []nest }
	if err := decode(deep, new(nest), 1<<20); err == nil {
		t.Error("a thousand values in each other were taken")
	}
}

// FuzzDecode checks that whatever can be read is written as it was, within the
// budget.
func FuzzDecode(f *testing.F) {
	whole, err := sandbox.Encode(nil, example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(strings.Repeat("\x02", 100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 1 << 16
		budget := int64(most)
		var v tree
		if sandbox.Decode(data, &v, &budget) != nil {
			return
		}
		if budget < 0 || budget > most {
			t.Fatalf("%d of %d bytes are left", budget, most)
		}
		text := fmt.Sprintf("%#v", v.Leaves)
		again, err := sandbox.Encode(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		var back tree
		budget = math.MaxInt64
		if err := sandbox.Decode(again, &back, &budget); err != nil || fmt.Sprintf("%#v", back.Leaves) != text || back.Text != v.Text {
			t.Fatalf("%v, %+v; want %+v", err, back, v)
		}
	})
}
