package scan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"time"
)

// What a scanner found out is kept between scans in a form of its own: values
// one after the other, without names or types. Who reads it must know the types
// to be those that wrote it, which a digest of them in the key of each entry
// sees to. Unlike encoding/json it keeps texts that are no UTF-8, and unlike
// encoding/gob it tells empty slices from none, so that a report is the same
// to the byte whether something was looked at or remembered.

var (
	errEncoded = errors.New("scan: what was kept cannot be read")
	timeType   = reflect.TypeFor[time.Time]()
)

// describeType writes what identifies the form of a type's values. It fails for
// types whose values cannot be kept.
func describeType(w io.Writer, t reflect.Type, within []reflect.Type) error {
	if i := slices.Index(within, t); i >= 0 {
		fmt.Fprintf(w, "^%d", i)
		return nil
	}
	within = append(within, t)
	fmt.Fprintf(w, "%s %s(", t, t.Kind())
	defer fmt.Fprint(w, ")")
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	case reflect.Pointer, reflect.Slice:
		return describeType(w, t.Elem(), within)
	case reflect.Map:
		return errors.Join(describeType(w, t.Key(), within), describeType(w, t.Elem(), within))
	case reflect.Struct:
		if t == timeType {
			return nil
		}
		for f := range fields(t) {
			if !f.IsExported() {
				return fmt.Errorf("scan: %s.%s cannot be kept: it is not exported", t, f.Name)
			}
			fmt.Fprintf(w, "%s ", f.Name)
			if err := describeType(w, f.Type, within); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("scan: a value of type %s cannot be kept", t)
}

func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if !yield(t.Field(i)) {
				return
			}
		}
	}
}

// describeTypes writes what identifies the forms of several types.
func describeTypes(w io.Writer, types ...reflect.Type) error {
	for _, t := range types {
		if err := describeType(w, t, nil); err != nil {
			return err
		}
	}
	return nil
}

// appendValue appends a value of a type that describeType accepts. Values of
// slices, maps and pointers have one more than their length before them, and a
// zero stands for none.
func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.String:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		return append(b, v.String()...)
	case reflect.Float32, reflect.Float64:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return binary.AppendVarint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return binary.AppendUvarint(b, v.Uint())
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		return appendValue(append(b, 1), v.Elem())
	case reflect.Slice:
		if v.IsNil() {
			return append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
	case reflect.Map:
		if v.IsNil() {
			return append(b, 0)
		}
		b = binary.AppendUvarint(b, uint64(v.Len())+1)
		for key, value := range v.Seq2() {
			b = appendValue(appendValue(b, key), value)
		}
	case reflect.Struct:
		if v.Type() == timeType {
			t := v.Interface().(time.Time)
			_, zone := t.Zone()
			b = binary.AppendVarint(b, t.Unix())
			return binary.AppendVarint(binary.AppendVarint(b, int64(t.Nanosecond())), int64(zone))
		}
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
	default:
		panic("scan: the form of " + v.Type().String() + " was not asked for")
	}
	return b
}

// A decoder reads what appendValue wrote. It trusts no count.
type decoder struct {
	rest string
	bad  bool
}

// maxNesting bounds how deep values may lie in each other.
const maxNesting = 100

func (d *decoder) fail() {
	d.rest, d.bad = "", true
}

func (d *decoder) uvarint() uint64 {
	var n uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) varint() int64 {
	n := d.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// value reads into v, which can be set.
func (d *decoder) value(v reflect.Value, depth int) {
	if depth > maxNesting {
		d.fail()
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(d.take(1) == "\x01")
	case reflect.String:
		v.SetString(d.take(d.uvarint()))
	case reflect.Float32, reflect.Float64:
		if s := d.take(8); len(s) == 8 {
			v.SetFloat(math.Float64frombits(binary.LittleEndian.Uint64([]byte(s))))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(d.varint())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(d.uvarint())
	case reflect.Pointer:
		if d.take(1) == "\x01" {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(v.Elem(), depth+1)
		}
	case reflect.Slice:
		d.slice(v, depth)
	case reflect.Map:
		d.mapping(v, depth)
	case reflect.Struct:
		if v.Type() == timeType {
			v.Set(reflect.ValueOf(d.time()))
			return
		}
		for i := range v.NumField() {
			d.value(v.Field(i), depth+1)
		}
	}
}

// count reads the number of elements before a slice or map. Each takes a byte
// at least, but for structs without fields, of which nobody needs many.
func (d *decoder) count() (n int, none bool) {
	switch n := d.uvarint(); {
	case n == 0:
		return 0, true
	case n-1 > uint64(len(d.rest)):
		d.fail()
		return 0, true
	default:
		return int(n - 1), false
	}
}

func (d *decoder) slice(v reflect.Value, depth int) {
	n, none := d.count()
	if none {
		return
	}
	// Room for elements grows as they come: theirs may be much larger than the
	// bytes that they are read from.
	v.Set(reflect.MakeSlice(v.Type(), 0, min(n, 1+len(d.rest)/max(int(v.Type().Elem().Size())/8, 1))))
	for range n {
		if d.bad {
			return
		}
		if v.Len() == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(v.Len() + 1)
		d.value(v.Index(v.Len()-1), depth+1)
	}
}

func (d *decoder) mapping(v reflect.Value, depth int) {
	n, none := d.count()
	if none {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for range n {
		if d.bad {
			return
		}
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		d.value(key, depth+1)
		d.value(value, depth+1)
		v.SetMapIndex(key, value)
	}
}

func (d *decoder) time() time.Time {
	sec, nsec, zone := d.varint(), d.varint(), d.varint()
	t := time.Unix(sec, nsec).UTC()
	if zone != 0 {
		t = t.In(time.FixedZone("", int(zone)))
	}
	return t
}
