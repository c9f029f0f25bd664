package report

import (
	"time"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A Signature is the code signature of a binary. Its digest and signature are
// verified, the chain to a root is not.
type Signature struct {
	Kind         string                   `json:"kind"` // Authenticode, Mach-O
	State        inventory.SignatureState `json:"state"`
	AdHoc        bool                     `json:"adHoc"`
	Signer       string                   `json:"signer"`
	Organization string                   `json:"organization"`
	Team         string                   `json:"team"`
	Issuer       string                   `json:"issuer"`
	SelfSigned   bool                     `json:"selfSigned"`
	Serial       string                   `json:"serial"`
	NotBefore    string                   `json:"notBefore"`
	NotAfter     string                   `json:"notAfter"`
	SignedAt     string                   `json:"signedAt"` // by a verified time stamp; else empty
	Digest       string                   `json:"digest"`
	Identifier   string                   `json:"identifier"`
	Hardened     bool                     `json:"hardenedRuntime"`
	Entitlements []string                 `json:"entitlements"`
	Problems     []string                 `json:"problems"`
}

// newSignature returns nil, which JSON writes as null, for a binary without a
// signature.
func newSignature(s *inventory.Signature) *Signature {
	if s == nil {
		return nil
	}
	return &Signature{
		Kind: s.Kind, State: s.State, AdHoc: s.AdHoc, Signer: s.Signer, Organization: s.Organization, Team: s.Team, Issuer: s.Issuer,
		SelfSigned: s.SelfSigned, Serial: s.Serial, NotBefore: day(s.NotBefore), NotAfter: day(s.NotAfter), SignedAt: day(s.Time),
		Digest: s.Digest, Identifier: s.Identifier, Hardened: s.Hardened, Entitlements: list(s.Entitlements), Problems: list(s.Problems),
	}
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
