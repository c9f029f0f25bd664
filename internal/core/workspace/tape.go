package workspace

import (
	"errors"
	"io"
)

// A tape is what reading a packed tar file gave, so that a file that is mounted
// again, to be shown in another way, need not be unpacked again. Only files that
// were read to their end without meeting a limit are taped.
type tape struct {
	name    string    // of the type of archive
	base    *unpacked // what the members are parts of
	charged int64     // bytes
	moves   []move
}

// A move is the answer to one call of a tarInput.
type move struct {
	block [blockSize]byte // of next
	err   error           // of next
	part  content         // of take
	kept  int64           // of take
}

// maxMoves bounds the memory of a tape: about half of it are headers.
const maxMoves = 8 << 10

// A recorder passes on what another input gives, and tapes it.
type recorder struct {
	tarInput
	moves  []move
	spoilt bool // there is more, or something else, than a tape holds
}

func (r *recorder) add(m move, err error) {
	if err != nil || len(r.moves) == maxMoves {
		r.moves, r.spoilt = nil, true
	}
	if !r.spoilt {
		r.moves = append(r.moves, m)
	}
}

func (r *recorder) next(block *[blockSize]byte) error {
	err := r.tarInput.next(block)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.add(move{block: *block, err: err}, nil)
	} else {
		r.add(move{block: *block}, err)
	}
	return err
}

func (r *recorder) take(raw string, n int64) (content, int64, error) {
	c, kept, err := r.tarInput.take(raw, n)
	r.add(move{part: c, kept: kept}, err)
	r.spoilt = r.spoilt || kept < n // of which there is a note
	return c, kept, err
}

func (r *recorder) skip(n int64) error {
	err := r.tarInput.skip(n)
	r.add(move{}, err)
	return err
}

// A player gives what a tape holds to a reader that asks the same.
type player struct{ left []move }

func (p *player) move() (m move) {
	if len(p.left) == 0 {
		return move{err: io.EOF}
	}
	m, p.left = p.left[0], p.left[1:]
	return m
}

func (p *player) next(block *[blockSize]byte) error {
	m := p.move()
	*block = m.block
	return m.err
}

func (p *player) take(string, int64) (content, int64, error) {
	m := p.move()
	return m.part, m.kept, m.err
}

func (p *player) skip(int64) error { return p.move().err }

// play reads an archive from a tape.
func (b *builder) play(t *tape) error {
	got, err := b.w.budget.takeBytes(t.charged)
	b.bytes += got
	if err != nil {
		return err
	}
	b.name, b.archive.base = t.name, t.base
	return readTar(b, &player{t.moves})
}
