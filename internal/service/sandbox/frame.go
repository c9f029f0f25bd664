package sandbox

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// maxFrame bounds one message in bytes: the largest is a binary with the
	// marks of all its functions.
	maxFrame = 128 << 20

	// maxAnswer bounds what a child may say in all, in bytes of the parent's
	// memory.
	maxAnswer = 1 << 30
)

// writeFrame writes a value, with its length in four bytes before it, in one
// call of w.
func writeFrame(w io.Writer, v any) error {
	frame, err := encode(make([]byte, 4, 512), v)
	if err != nil {
		return err
	}
	if len(frame)-4 > maxFrame {
		return fmt.Errorf("a message of %d MB is longer than the limit of %d MB", len(frame)>>20, maxFrame>>20)
	}
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-4))
	_, err = w.Write(frame)
	return err
}

// readFrame reads a value into v. It reads nothing beyond it, and returns io.EOF
// if there is none.
func readFrame(r io.Reader, v any, budget *int64) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("a message of %d MB is longer than the limit of %d MB", n>>20, maxFrame>>20)
	}
	// The length is only a claim: memory grows as bytes come.
	data, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(data) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	return decode(data, v, budget)
}
