package sandbox

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
)

// The two processes speak in values of Go: structs of exported fields, slices,
// maps, pointers, strings, numbers and times, one after the other, numbers as in
// package encoding/binary, and everything that can be long with its length before
// it. Package encoding/gob would do the same, but is not made for bytes from
// somebody hostile, and JSON has no way to write names that are no UTF-8.

// maxNesting bounds how deep values lie in each other.
const maxNesting = 64

var timeType = reflect.TypeFor[time.Time]()

// encode appends v to out. An error is a mistake of the program: v is of a type
// that cannot be written.
func encode(out []byte, v any) ([]byte, error) {
	e := encoder{out}
	err := e.value(reflect.ValueOf(v), 0)
	return e.out, err
}

type encoder struct{ out []byte }

func (e *encoder) uint(n uint64) { e.out = binary.AppendUvarint(e.out, n) }

func (e *encoder) value(v reflect.Value, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("values lie more than %d deep in each other", maxNesting)
	}
	if v.IsValid() && v.Type() == timeType {
		return e.time(v.Interface().(time.Time))
	}
	switch v.Kind() {
	case reflect.Bool:
		e.uint(uint64(bit(v.Bool())))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.out = binary.AppendVarint(e.out, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		e.uint(v.Uint())
	case reflect.Float64:
		e.out = binary.LittleEndian.AppendUint64(e.out, math.Float64bits(v.Float()))
	case reflect.String:
		e.uint(uint64(v.Len()))
		e.out = append(e.out, v.String()...)
	case reflect.Pointer:
		e.uint(uint64(bit(!v.IsNil())))
		if !v.IsNil() {
			return e.value(v.Elem(), depth+1)
		}
	case reflect.Array:
		return e.list(v, depth)
	case reflect.Slice:
		e.length(v)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			e.out = append(e.out, v.Bytes()...)
			return nil
		}
		return e.list(v, depth)
	case reflect.Map:
		return e.mapping(v, depth)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				return fmt.Errorf("%v has the field %s, which is not exported", v.Type(), v.Type().Field(i).Name)
			}
			if err := e.value(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("a %v cannot be written", v.Kind())
	}
	return nil
}

// length writes the length of a slice or a map plus one, and 0 for nil.
func (e *encoder) length(v reflect.Value) {
	if v.IsNil() {
		e.uint(0)
		return
	}
	e.uint(uint64(v.Len()) + 1)
}

func (e *encoder) list(v reflect.Value, depth int) error {
	for i := range v.Len() {
		if err := e.value(v.Index(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// mapping writes keys and values, sorted by the bytes of the keys.
func (e *encoder) mapping(v reflect.Value, depth int) error {
	type entry struct{ key, value []byte }
	var entries []entry
	for it := v.MapRange(); it.Next(); {
		var k, x encoder
		if err := cmp.Or(k.value(it.Key(), depth+1), x.value(it.Value(), depth+1)); err != nil {
			return err
		}
		entries = append(entries, entry{k.out, x.out})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	e.length(v)
	for _, n := range entries {
		e.out = append(append(e.out, n.key...), n.value...)
	}
	return nil
}

func (e *encoder) time(t time.Time) error {
	text, err := t.MarshalBinary()
	e.uint(uint64(len(text)))
	e.out = append(e.out, text...)
	return err
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

var (
	errShort  = errors.New("the message ends too early")
	errFull   = errors.New("the message needs too much memory")
	errNumber = errors.New("the message holds a number that is too large")
)

// decode reads into v, a pointer, what encode made of a value of its type. It
// takes the bytes for hostile: it allocates no more than budget, which it lowers
// by what it used, and leaves no nil among the elements of a slice or a map.
func decode(data []byte, v any, budget *int64) error {
	d := decoder{data: data, budget: budget}
	if err := d.value(reflect.ValueOf(v).Elem(), 0); err != nil {
		return err
	}
	if len(d.data) > 0 {
		return errors.New("the message is longer than what it holds")
	}
	return nil
}

type decoder struct {
	data   []byte
	budget *int64
}

func (d *decoder) uint() (uint64, error) {
	n, size := binary.Uvarint(d.data)
	if size <= 0 {
		return 0, errShort
	}
	d.data = d.data[size:]
	return n, nil
}

// take returns the next n bytes.
func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.data)) {
		return nil, errShort
	}
	out := d.data[:n]
	d.data = d.data[n:]
	return out, nil
}

// charge takes memory for n values of size bytes from the budget. Each value is
// written in a byte at least, so that there are never more than bytes are left.
func (d *decoder) charge(n uint64, size uintptr) error {
	if n > uint64(len(d.data)) {
		return errShort
	}
	if *d.budget -= int64(n) * int64(size); *d.budget < 0 {
		return errFull
	}
	return nil
}

func (d *decoder) value(v reflect.Value, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("values lie more than %d deep in each other", maxNesting)
	}
	if v.Type() == timeType {
		return d.time(v)
	}
	switch v.Kind() {
	case reflect.Bool:
		n, err := d.uint()
		v.SetBool(n == 1)
		if n > 1 {
			return errNumber
		}
		return err
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, size := binary.Varint(d.data)
		if size <= 0 {
			return errShort
		}
		if v.OverflowInt(n) {
			return errNumber
		}
		d.data = d.data[size:]
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := d.uint()
		if v.OverflowUint(n) {
			return errNumber
		}
		v.SetUint(n)
		return err
	case reflect.Float64:
		b, err := d.take(8)
		if err != nil {
			return err
		}
		f := math.Float64frombits(binary.LittleEndian.Uint64(b))
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return errNumber // no report can hold it
		}
		v.SetFloat(f)
	case reflect.String:
		b, err := d.bytes()
		v.SetString(string(b))
		return err
	case reflect.Pointer:
		return d.pointer(v, depth)
	case reflect.Array:
		return d.list(v, depth)
	case reflect.Slice:
		return d.slice(v, depth)
	case reflect.Map:
		return d.mapping(v, depth)
	case reflect.Struct:
		for i := range v.NumField() {
			if err := d.value(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	default:
		return fmt.Errorf("a %v cannot be read", v.Kind())
	}
	return nil
}

// bytes reads a length and as many bytes.
func (d *decoder) bytes() ([]byte, error) {
	n, err := d.uint()
	if err == nil {
		err = d.charge(n, 1)
	}
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

func (d *decoder) pointer(v reflect.Value, depth int) error {
	n, err := d.uint()
	if err != nil || n == 0 {
		return err
	}
	if n > 1 {
		return errNumber
	}
	if err := d.charge(1, v.Type().Elem().Size()); err != nil {
		return err
	}
	v.Set(reflect.New(v.Type().Elem()))
	return d.value(v.Elem(), depth+1)
}

func (d *decoder) slice(v reflect.Value, depth int) error {
	n, err := d.uint()
	if err != nil || n == 0 {
		return err
	}
	n--
	if err := d.charge(n, v.Type().Elem().Size()); err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(v.Type(), int(n), int(n)))
	if v.Type().Elem().Kind() == reflect.Uint8 {
		b, err := d.take(n)
		copy(v.Bytes(), b)
		return err
	}
	return d.list(v, depth)
}

func (d *decoder) list(v reflect.Value, depth int) error {
	for i := range v.Len() {
		if err := d.element(v.Index(i), depth); err != nil {
			return err
		}
	}
	return nil
}

// element reads a value that must not be nil.
func (d *decoder) element(v reflect.Value, depth int) error {
	if err := d.value(v, depth+1); err != nil {
		return err
	}
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("the message holds a list of nothing")
	}
	return nil
}

// entryCost is about what an entry of a map needs besides key and value.
const entryCost = 16

func (d *decoder) mapping(v reflect.Value, depth int) error {
	n, err := d.uint()
	if err != nil || n == 0 {
		return err
	}
	n--
	t := v.Type()
	if err := d.charge(n, t.Key().Size()+t.Elem().Size()+entryCost); err != nil {
		return err
	}
	v.Set(reflect.MakeMapWithSize(t, int(n)))
	for range n {
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := d.element(key, depth); err != nil {
			return err
		}
		if err := d.element(value, depth); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
	}
	return nil
}

func (d *decoder) time(v reflect.Value) error {
	b, err := d.bytes()
	if err != nil {
		return err
	}
	var t time.Time
	if err := t.UnmarshalBinary(b); err != nil {
		return err
	}
	if y := t.Year(); y < 0 || y > 9999 {
		return errNumber // no report can hold it
	}
	v.Set(reflect.ValueOf(t))
	return nil
}
