package hidden

import "github.com/loupe-sec/loupe/internal/formats/native/code"

// A Text is a word that code decodes or puts together.
type Text struct {
	Word    int    // index into the words
	Addr    uint64 // of an instruction that writes it
	How     string // "decoded by code", "put together by code"
	Decoded string // the printable run that holds the word, at most 300 bytes
	Alone   bool   // as in Find
	Encoded bool   // it stood nowhere as it is, not even in parts
}

// Code x.
func (f *Finder) Code(c *code.Code, wanted func(addr uint64) bool) []Text { return nil }
