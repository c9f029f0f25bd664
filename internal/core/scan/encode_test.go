package scan

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Text  string
	List  []*sample
	Map   map[string]int8
	Real  float32
	On    bool
	Big   uint64
	Array []byte
	At    time.Time
}

// FuzzDecode reads what may have been written, and writes it again.
func FuzzDecode(f *testing.F) {
	f.Add(appendValue(nil, reflect.ValueOf(sample{
		Text: "\xff", List: []*sample{nil, {Array: []byte{}}}, Map: map[string]int8{"a": -1}, Real: 0.5, On: true, Big: 1 << 63, At: time.Unix(1, 2).UTC(),
	})))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second sample
		d := decoder{rest: string(data)}
		d.value(reflect.ValueOf(&first).Elem(), 0)
		if d.bad {
			return
		}
		again := decoder{rest: string(appendValue(nil, reflect.ValueOf(first)))}
		again.value(reflect.ValueOf(&second).Elem(), 0)
		if again.bad || again.rest != "" {
			t.Fatal("what was written cannot be read")
		}
		if first.Real == first.Real && !strings.Contains(cmp.Diff(first, second), "NaN") {
			if diff := cmp.Diff(first, second); diff != "" {
				t.Errorf("(-first +second):\n%s", diff)
			}
		}
	})
}

func TestTypesThatCannotBeKept(t *testing.T) {
	for _, v := range []any{struct{ hidden int }{}, struct{ F func() }{}, struct{ Any any }{}, make(chan int)} {
		if err := describeTypes(new(strings.Builder), reflect.TypeOf(v)); err == nil {
			t.Errorf("%T can be kept", v)
		}
	}
}
