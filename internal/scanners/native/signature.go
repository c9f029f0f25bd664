package native

import (
	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/signature"
)

// signed returns what the code signature of a binary says, nil if it has none.
func signed(m *image.Image) *inventory.Signature {
	s := signature.Read(m)
	if s == nil {
		return nil
	}
	return signatureFact(s)
}

// signatureFact turns a signature into a fact. Its names are the signer's own words.
func signatureFact(s *signature.Signature) *inventory.Signature {
	const longest = 300
	out := &inventory.Signature{
		Kind:         string(s.Kind),
		State:        state(s),
		AdHoc:        s.AdHoc,
		Signer:       finding.Printable(s.Signer, longest),
		Organization: finding.Printable(s.Organization, longest),
		Team:         finding.Printable(s.Team, longest),
		Issuer:       finding.Printable(s.Issuer, longest),
		SelfSigned:   s.SelfSigned,
		Serial:       s.Serial,
		Chain:        printable(s.Chain, longest),
		NotBefore:    s.NotBefore,
		NotAfter:     s.NotAfter,
		Time:         s.Time,
		Digest:       s.Algorithm,
		Identifier:   finding.Printable(s.Identifier, longest),
		Hardened:     s.Hardened,
		Entitlements: printable(s.Entitlements, longest),
		Unhashed:     s.Unhashed,
		Problems:     printable(s.Problems, longest),
	}
	for _, n := range s.Nested {
		out.More = append(out.More, signatureFact(n))
	}
	return out
}

func state(s *signature.Signature) inventory.SignatureState {
	switch {
	case s.Broken():
		return inventory.SignatureBroken
	case s.Valid():
		return inventory.SignatureValid
	}
	return inventory.SignatureUnchecked
}

func printable(texts []string, longest int) (out []string) {
	for _, t := range texts {
		out = append(out, finding.Printable(t, longest))
	}
	return out
}
