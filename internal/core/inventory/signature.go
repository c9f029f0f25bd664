package inventory

import "time"

// A Signature is the code signature of a binary: who signed it, and whether it
// is still what was signed. Nobody has asked whether the signer deserves trust:
// digest and signature are verified, the chain to a root is not.
type Signature struct {
	Kind  string // "Authenticode", "Mach-O"
	State SignatureState

	AdHoc        bool   // hashes without a signer, which anybody can make
	Signer       string // common name of the certificate; empty if AdHoc
	Organization string
	Team         string // Apple's
	Issuer       string // who issued the certificate
	SelfSigned   bool   // nobody but the signer did
	Serial       string // of the certificate, hex
	Chain        []string

	NotBefore, NotAfter time.Time // of the certificate
	Time                time.Time // by a verified time stamp; zero if there is none

	Digest       string // algorithm: "SHA-256"
	Identifier   string // Mach-O: what the signer calls it
	Hardened     bool   // Mach-O: asks for the hardened runtime
	Entitlements []string
	Unhashed     int      // bytes that the signature does not cover, where that goes unnoticed
	Problems     []string // in sentences

	More []*Signature // further ones of the same file
}

// A SignatureState is what checking a signature came to.
type SignatureState string

// The states.
const (
	SignatureValid     SignatureState = "valid"     // the binary is what was signed
	SignatureBroken    SignatureState = "broken"    // it is not, or the signature is not the signer's
	SignatureUnchecked SignatureState = "unchecked" // that could not be found out; Problems say why
)

// By returns who signed: the organization, else what the certificate is called.
func (s *Signature) By() string {
	if s.Organization != "" {
		return s.Organization
	}
	return s.Signer
}

// Real reports whether somebody signed the binary and it is unchanged since.
func (s *Signature) Real() bool { return s != nil && !s.AdHoc && s.State == SignatureValid }
