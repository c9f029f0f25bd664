package report

import (
	"time"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A Signature is the code signature of a binary. Its digest and signature are
// verified, the chain to a root is not.
type Signature struct {
	Kind         string                   `json:"kind" doc:"Authenticode, Mach-O"`
	State        inventory.SignatureState `json:"state" doc:"whether it holds"`
	AdHoc        bool                     `json:"adHoc" doc:"it names nobody"`
	Signer       string                   `json:"signer" doc:"who signed, as the certificate says"`
	Organization string                   `json:"organization" doc:"the signer's"`
	Team         string                   `json:"team" doc:"the signer's, with Apple"`
	Issuer       string                   `json:"issuer" doc:"of the certificate"`
	SelfSigned   bool                     `json:"selfSigned" doc:"nobody vouches for the certificate"`
	Serial       string                   `json:"serial" doc:"of the certificate"`
	NotBefore    string                   `json:"notBefore" doc:"when the certificate begins to be good"`
	NotAfter     string                   `json:"notAfter" doc:"when it ends"`
	SignedAt     string                   `json:"signedAt" doc:"by a verified time stamp; else empty"`
	Digest       string                   `json:"digest" doc:"the algorithm of the digest"`
	Identifier   string                   `json:"identifier" doc:"of the program, with Apple"`
	Hardened     bool                     `json:"hardenedRuntime" doc:"it asks for the hardened runtime"`
	Entitlements []string                 `json:"entitlements" doc:"what it asks to be allowed"`
	Problems     []string                 `json:"problems" doc:"what is wrong with it"`
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
