// Package signature reads the code signatures of binaries: Authenticode of PE
// files and the code signatures of Mach-O files. It says who signed, when, and
// whether the file is still what was signed.
//
// It verifies digests, and signatures by the certificate that lies beside them.
// It does not ask whether that certificate deserves trust: no chain is followed
// to a root, no revocation is looked up, and anybody can make a certificate in
// any name.
package signature

import (
	"fmt"
	"slices"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// A Kind is a scheme of code signatures.
type Kind string

// The kinds.
const (
	Authenticode Kind = "Authenticode"
	MachO        Kind = "Mach-O"
)

// A Verdict is the outcome of a check.
type Verdict uint8

// The verdicts.
const (
	Unchecked Verdict = iota // it could not be checked; Problems says why
	Good
	Bad
)

func (v Verdict) String() string {
	switch v {
	case Good:
		return "good"
	case Bad:
		return "bad"
	}
	return "not checked"
}

// A Signature is one code signature of a binary. Its texts come from the file
// as they stand, cut to a length; whoever prints them makes them printable.
type Signature struct {
	Kind Kind

	// Digest says whether the bytes of the binary are those that were signed.
	Digest    Verdict
	Algorithm string // of the digest: "SHA-256"; for Mach-O that of the best code directory

	// Signature says whether the signer's key, by the certificate in the
	// signature, signed that digest. The chain to a root is not followed. It
	// stays Unchecked for an ad-hoc signature, which has none.
	Signature Verdict

	Signer       string // common name of the certificate that signed, or what else names it
	Organization string
	Issuer       string // common name of who issued that certificate
	SelfSigned   bool   // the certificate vouches for itself
	Serial       string // of the certificate, hex
	NotBefore    time.Time
	NotAfter     time.Time
	Chain        []string // subjects from the signer up, as far as certificates are there

	// Time is when somebody else attests that the signature existed: the
	// verified time stamp or counter signature. Zero if there is none.
	Time   time.Time
	TimeBy string // the signer of that time stamp

	Program, URL string // Authenticode: what the signer says it is

	// Of Mach-O alone.
	AdHoc        bool // hashes without a signer, which anybody can make
	Linker       bool // an ad-hoc signature that the linker made
	Identifier   string
	Team         string
	Hardened     bool     // asks for the hardened runtime
	Entitlements []string // keys that are granted, sorted

	// Unhashed counts bytes that are not zero and that the signature does not
	// cover, though they lie where they do not invalidate it.
	Unhashed int

	Nested   []*Signature // further signatures of the same file, usually with another digest
	Problems []string     // what is wrong or could not be checked, in sentences
}

// Valid reports whether everything that was checked is good: the bytes are
// those that were signed, and, unless nobody signed them, the signature of the
// signer verifies.
func (s *Signature) Valid() bool {
	return s.Digest == Good && (s.AdHoc || s.Signature == Good)
}

// Broken reports whether something that was checked is bad.
func (s *Signature) Broken() bool { return s.Digest == Bad || s.Signature == Bad }

// Limits on what one file may make this package do.
const (
	maxHashed   = 512 << 20 // bytes of a binary
	maxMessage  = 32 << 20  // bytes of a signed message, which may hold a hash for each page
	maxProblems = 30
	maxName     = 500 // bytes of a text
)

// problem records what is wrong.
func (s *Signature) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if len(s.Problems) < maxProblems && !slices.Contains(s.Problems, text) {
		s.Problems = append(s.Problems, text)
	}
}

// Read returns the code signature of a binary, or nil if it has none. It reads
// the whole binary once for each digest algorithm.
func Read(m *image.Image) (s *Signature) {
	kind := Authenticode
	read := readPE
	switch m.Format {
	case image.PE:
	case image.MachO:
		kind, read = MachO, readMachO
	default:
		return nil
	}
	defer func() {
		if r := recover(); r != nil { // one binary must not end the look at the others
			s = &Signature{Kind: kind}
			s.problem("not looked at: reading the signature failed: %v", r)
		}
	}()
	return read(m)
}

// cut shortens a text to what this package keeps of one.
func cut(s string) string { return s[:min(len(s), maxName)] }
