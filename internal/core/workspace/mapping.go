package workspace

import (
	"os"
	"sync"
	"time"
	"unsafe"
)

const (
	// minMapped is from which size a file is mapped instead of read: below it
	// a copy costs less than the faults.
	minMapped = 1 << 20

	// maxRead is how much of a file is read into memory where it cannot be
	// mapped.
	maxRead = 1 << 30

	// maxResident is how many bytes of files may be in the memory of the
	// process before the pages of mappings are dropped. They stay in the
	// system's cache of files, so that touching them again is cheap.
	maxResident = 32 << 20

	// sweepEvery is how often that is checked while larger files are mapped.
	sweepEvery = 4 * time.Millisecond
)

// A mapping is a part of a file of the host in the address space of the
// process. Touching what has been cut off the file since faults.
type mapping struct {
	pages []byte // as mapped, from the start of a page
	data  []byte // what was asked for
}

// holds reports whether an address lies in the mapping.
func (m *mapping) holds(addr uintptr) bool {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(m.pages)))
	return addr >= from && addr-from < uintptr(len(m.pages))+uintptr(os.Getpagesize())
}

// mappings are all mappings of a workspace. While they are larger than what may
// be in memory, a goroutine drops their pages whenever too many are.
type mappings struct {
	mu       sync.Mutex
	live     map[*mapping]struct{}
	size     int64
	sweeping bool
}

// add maps n bytes of a file from an offset. It returns nil if the system
// cannot do that.
func (m *mappings) add(f *os.File, off, n int64) *mapping {
	page := int64(os.Getpagesize())
	lead := off % page
	if n < minMapped || int64(int(n+lead)) != n+lead {
		return nil
	}
	pages, err := mapFile(f, off-lead, int(n+lead))
	if err != nil {
		return nil // file systems of some kinds cannot
	}
	p := &mapping{pages: pages, data: pages[lead : lead+n : lead+n]}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.live == nil {
		m.live = map[*mapping]struct{}{}
	}
	m.live[p] = struct{}{}
	m.size += int64(len(pages))
	if canDrop && m.size > maxResident && !m.sweeping {
		m.sweeping = true
		go m.sweep()
	}
	return p
}

func (m *mappings) remove(p *mapping) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.live, p)
	m.size -= int64(len(p.pages))
	unmap(p.pages)
}

// sweep keeps the resident part of the mappings small for as long as they
// could be more.
func (m *mappings) sweep() {
	counter := openResident()
	defer counter.close()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for range tick.C {
		m.mu.Lock()
		if m.size <= maxResident {
			m.sweeping = false
			m.mu.Unlock()
			return
		}
		if counter.bytes() > maxResident {
			for p := range m.live {
				dropPages(p.pages)
			}
		}
		m.mu.Unlock()
	}
}
