// Package forge signs binaries in made-up names, for the examples of rules and
// for tests. Equal orders give equal bytes: keys come from names, and nothing
// from chance or the clock. What it makes is worth nothing to anybody who asks
// who vouches for the signer.
package forge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"time"
)

// An Order says how to sign. The zero value of each field but Signer is fine.
type Order struct {
	Signer       string // common name in the certificate; for Mach-O none makes an ad-hoc signature
	Organization string // in the certificate; Signer by default
	Unit         string // in the certificate
	Issuer       string // of the certificate; Signer vouches for itself if it is the same, and "Made-up CA" is the default
	From, To     time.Time
	Digest       crypto.Hash // SHA-256 by default
	Time         time.Time   // of a time stamp token by "Made-up Clock"; none if zero
	Counter      bool        // make the time stamp a counter signature
	Hidden       int         // bytes to put where a signature covers none: for PE beside it in its table, for Mach-O behind it

	// Of PE alone.
	Program, URL string
	Nested       []Order
	Hashed       func(file []byte) []byte // what to hash in place of the file without its checksum and certificates

	// Of Mach-O alone.
	Identifier   string // "binary" by default
	Team         string
	Flags        uint32        // of the code directories
	More         []crypto.Hash // further code directories
	Entitlements string        // a property list
	DER          []byte        // entitlements in DER
	Requirements []byte        // a blob
	Info         []byte        // an Info.plist
	Open         bool          // leave the lengths of the message open, as Apple's tools do

	// Message makes the message about a code directory, in place of this
	// package, if it is not nil.
	Message func(directory []byte) ([]byte, error)
}

// Dates of certificates, unless an order says others.
var (
	From = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	To   = time.Date(2044, 1, 1, 0, 0, 0, 0, time.UTC)
)

// A signer has a key and a certificate, and those of who vouches for it.
type signer struct {
	key   key
	cert  *x509.Certificate
	certs [][]byte // with issuers
}

// A key makes the same signature of the same digest each time.
type key struct{ *ecdsa.PrivateKey }

func (k key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

func keyOf(name string) (key, error) {
	seed := sha256.Sum256([]byte("the key of " + name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	return key{k}, err
}

// certify makes a certificate for name, by issuer.
func certify(name pkix.Name, k key, issuer *x509.Certificate, by key, from, to time.Time) (*x509.Certificate, error) {
	serial := sha256.Sum256([]byte(name.CommonName))
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:8]),
		Subject:      name,
		NotBefore:    from,
		NotAfter:     to,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		SubjectKeyId: serial[8:28],
	}
	if issuer == nil {
		issuer = t
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage, t.ExtKeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, nil
	}
	der, err := x509.CreateCertificate(nil, t, issuer, k.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newSigner(o Order) (*signer, error) {
	issuer, from, to := o.Issuer, o.From, o.To
	if issuer == "" {
		issuer = "Made-up CA"
	}
	if from.IsZero() {
		from = From
	}
	if to.IsZero() {
		to = To
	}
	name := pkix.Name{CommonName: o.Signer, Organization: []string{o.Organization}}
	if o.Organization == "" {
		name.Organization[0] = o.Signer
	}
	if o.Unit != "" {
		name.OrganizationalUnit = []string{o.Unit}
	}
	k, err := keyOf(o.Signer)
	if err != nil {
		return nil, err
	}
	if issuer == o.Signer {
		c, err := certify(name, k, nil, k, from, to)
		if err != nil {
			return nil, err
		}
		return &signer{k, c, [][]byte{c.Raw}}, nil
	}
	by, err := keyOf(issuer)
	if err != nil {
		return nil, err
	}
	root, err := certify(pkix.Name{CommonName: issuer}, by, nil, by, From, To)
	if err != nil {
		return nil, err
	}
	c, err := certify(name, k, root, by, from, to)
	if err != nil {
		return nil, err
	}
	return &signer{k, c, [][]byte{c.Raw, root.Raw}}, nil
}

// hidden are bytes that are not zero.
func (o Order) hidden() []byte {
	b := make([]byte, o.Hidden)
	for i := range b {
		b[i] = byte(i%255) + 1
	}
	return b
}

func (o Order) digest() crypto.Hash {
	if o.Digest == 0 {
		return crypto.SHA256
	}
	return o.Digest
}

func hashed(h crypto.Hash, parts ...[]byte) []byte {
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}

var errUnsupported = fmt.Errorf("the binary has no room for a signature")
