package scan

import (
	"reflect"
	"sync"
)

// shared is what scanners made of one file for each other, by its type.
type shared struct {
	mu   sync.Mutex
	made map[reflect.Type]any
}

// Share returns what make makes of the file's bytes, which scanners that ask
// for the same type share: parsing takes time. It fails as [File.Data] does,
// and what it says of the bytes holds for what is made of them.
func Share[T any](f *File, make func(data []byte) T) (T, error) {
	data, err := f.Data()
	if err != nil {
		var none T
		return none, err
	}
	if !f.shared.mu.TryLock() {
		return make(data), nil // a call that was left behind is at it
	}
	defer f.shared.mu.Unlock()
	of := reflect.TypeFor[T]()
	if one, ok := f.shared.made[of]; ok {
		return one.(T), nil
	}
	one := make(data)
	if f.shared.made == nil {
		f.shared.made = map[reflect.Type]any{}
	}
	f.shared.made[of] = one
	return one, nil
}

// drop forgets what was made.
func (s *shared) drop() {
	if s.mu.TryLock() {
		s.made = nil
		s.mu.Unlock()
	}
}
