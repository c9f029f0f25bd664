package cursor

import (
	"bytes"
	"hash"
	"slices"
)

// stride is how many bytes are looked at in one go. The routines behind the
// functions of this file cannot be interrupted, not even for a collection of
// garbage that everybody waits for, and files are as large as they like.
const stride = 1 << 20

// Index is bytes.Index that lets others run on the way.
func Index(data, mark []byte) int {
	for at := 0; at+len(mark) <= len(data); at += stride {
		end := min(len(data)-at, stride+len(mark)-1) // of what begins in this stride
		if i := bytes.Index(data[at:at+end], mark); i >= 0 {
			return at + i
		}
	}
	return -1
}

// IndexByte is bytes.IndexByte that lets others run on the way.
func IndexByte(data []byte, b byte) int {
	for at := 0; at < len(data); at += stride {
		if i := bytes.IndexByte(data[at:min(len(data), at+stride)], b); i >= 0 {
			return at + i
		}
	}
	return -1
}

// Hash writes data to a hash and lets others run on the way.
func Hash(h hash.Hash, data []byte) {
	for part := range slices.Chunk(data, stride/4) {
		h.Write(part)
	}
}
