package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	_ "crypto/md5" // old signatures use it
	"crypto/rsa"
	_ "crypto/sha1" // as above
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/native/cursor"
)

// A message is a SignedData of RFC 5652 (CMS), section 5.1, or of RFC 2315
// (PKCS #7), section 9.1: what is signed, by whom, with which certificates.
type message struct {
	contentType string
	content     []byte // as it is hashed: without tag and length; nil if it is elsewhere
	element     element
	certs       []*certificate
	unread      int // certificates that could not be read
	signers     []signer
}

// A signer is a SignerInfo (section 5.3).
type signer struct {
	issuer, serial, keyID []byte // name the certificate, by issuer and serial or by key
	digest                string // algorithm
	signed                []attr
	signedBytes           []byte // what the signature is over if there are signed attributes
	algorithm             string
	parameters            element
	signature             []byte
	unsigned              []attr
}

// An attr is an attribute (section 5.3) with its first value. Those that come
// with the signature have one; more are kept for what may repeat.
type attr struct {
	oid    string
	values []element
	size   int
}

const (
	oidSignedData    = "1.2.840.113549.1.7.2"
	oidContentType   = "1.2.840.113549.1.9.3"
	oidMessageDigest = "1.2.840.113549.1.9.4"
	oidSigningTime   = "1.2.840.113549.1.9.5"
	oidCounter       = "1.2.840.113549.1.9.6"
	oidTimestamp     = "1.2.840.113549.1.9.16.2.14" // RFC 3161, appendix A
	oidTimestampMS   = "1.3.6.1.4.1.311.3.3.1"
	oidTSTInfo       = "1.2.840.113549.1.9.16.1.4"
)

// Limits on a message.
const (
	maxCerts   = 200
	maxSigners = 10
	maxAttrs   = 100
	maxValues  = 20
	maxSigned  = 1 << 20 // bytes of signed attributes
	maxStamps  = 8
)

// readMessage reads a ContentInfo with a SignedData, and returns what follows.
func readMessage(b []byte) (*message, []byte, error) {
	outer, rest, err := next(b)
	if err != nil {
		return nil, nil, err
	}
	s := outer.elements()
	typ, _ := s.next()
	if oid := typ.oid(); oid != oidSignedData {
		return nil, nil, fmt.Errorf("the content %q is not signed data", oid)
	}
	data, err := s.want(context, 0).first()
	if err != nil || s.err != nil {
		return nil, nil, errBER
	}
	m, err := readSignedData(data)
	return m, rest, err
}

func readSignedData(e element) (*message, error) {
	s := e.elements()
	s.want(universal, tagInteger) // version
	s.want(universal, tagSet)     // digest algorithms, which each signer repeats
	info := s.want(universal, tagSequence)
	if s.err != nil {
		return nil, s.err
	}
	m := &message{}
	i := info.elements()
	typ, _ := i.next()
	m.contentType = typ.oid()
	if c, ok := i.maybe(context, 0); ok {
		inner, err := c.first()
		if err != nil {
			return nil, err
		}
		m.element, m.content = inner, inner.body
		if inner.is(universal, tagOctets) {
			m.content = inner.octets()
		}
		if m.content == nil {
			m.content = []byte{}
		}
	}
	if certs, ok := s.maybe(context, 0); ok {
		m.readCertificates(certs)
	}
	s.maybe(context, 1) // revoked certificates
	list := s.want(universal, tagSet)
	if s.err != nil {
		return nil, s.err
	}
	for l := list.elements(); len(m.signers) < maxSigners; {
		e, ok := l.next()
		if !ok {
			return m, l.err
		}
		si, err := readSigner(e)
		if err != nil {
			return nil, fmt.Errorf("signer: %w", err)
		}
		m.signers = append(m.signers, si)
	}
	return m, nil
}

func (m *message) readCertificates(set element) {
	for s := set.elements(); len(m.certs) < maxCerts && m.unread < maxCerts; {
		e, ok := s.next()
		if !ok {
			return
		}
		c, err := readCertificate(e)
		if err != nil {
			m.unread++
			continue
		}
		m.certs = append(m.certs, c)
	}
}

func readSigner(e element) (si signer, err error) {
	s := e.elements()
	s.want(universal, tagInteger) // version
	if id, ok := s.maybe(context, 0); ok {
		si.keyID = id.octets()
	} else {
		id := s.want(universal, tagSequence).elements()
		si.issuer = id.want(universal, tagSequence).full
		si.serial = id.want(universal, tagInteger).body
		s.err = errors.Join(s.err, id.err)
	}
	si.digest, _ = readAlgorithm(s.want(universal, tagSequence))
	if a, ok := s.maybe(context, 0); ok {
		if len(a.full) > maxSigned {
			return si, fmt.Errorf("%d bytes of signed attributes are too many", len(a.full))
		}
		// Signed are the attributes as the SET OF that they are (section 5.4).
		si.signedBytes = bytes.Clone(a.definite())
		si.signedBytes[0] = 0x31
		if si.signed, err = readAttrs(a); err != nil {
			return si, err
		}
	}
	si.algorithm, si.parameters = readAlgorithm(s.want(universal, tagSequence))
	si.signature = s.want(universal, tagOctets).octets()
	if a, ok := s.maybe(context, 1); ok {
		if si.unsigned, err = readAttrs(a); err != nil {
			return si, err
		}
	}
	return si, s.err
}

// readAlgorithm reads an AlgorithmIdentifier.
func readAlgorithm(e element) (oid string, parameters element) {
	s := e.elements()
	id, _ := s.next()
	parameters, _ = s.next()
	return id.oid(), parameters
}

func readAttrs(set element) (out []attr, err error) {
	s := set.elements()
	for len(out) < maxAttrs {
		e, ok := s.next()
		if !ok {
			break
		}
		p := e.elements()
		id, _ := p.next()
		a := attr{oid: id.oid(), size: len(e.full)}
		for v := p.want(universal, tagSet).elements(); len(a.values) < maxValues; {
			value, ok := v.next()
			if !ok {
				break
			}
			a.values = append(a.values, value)
		}
		out = append(out, a)
	}
	return out, s.err
}

// first returns the first value of an attribute.
func first(attrs []attr, oid string) (element, bool) {
	i := slices.IndexFunc(attrs, func(a attr) bool { return a.oid == oid && len(a.values) > 0 })
	if i < 0 {
		return element{}, false
	}
	return attrs[i].values[0], true
}

// hashes are the digest algorithms, by the identifiers of RFC 8017 (appendix
// B.1) and of the signature algorithms that imply one, which old signers write
// in their place.
var hashes = map[string]crypto.Hash{
	"1.2.840.113549.2.5":     crypto.MD5,
	"1.3.14.3.2.26":          crypto.SHA1,
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
	"2.16.840.1.101.3.4.2.4": crypto.SHA224,
	"1.2.840.113549.1.1.4":   crypto.MD5,
	"1.2.840.113549.1.1.5":   crypto.SHA1,
	"1.2.840.113549.1.1.11":  crypto.SHA256,
	"1.2.840.113549.1.1.12":  crypto.SHA384,
	"1.2.840.113549.1.1.13":  crypto.SHA512,
	"1.2.840.10045.4.1":      crypto.SHA1,
	"1.2.840.10045.4.3.2":    crypto.SHA256,
	"1.2.840.10045.4.3.3":    crypto.SHA384,
	"1.2.840.10045.4.3.4":    crypto.SHA512,
}

// An unknownError is about something that this package cannot check, as
// opposed to something that is wrong.
type unknownError struct{ what string }

func (e *unknownError) Error() string { return e.what }

func unknown(format string, args ...any) error {
	return &unknownError{fmt.Sprintf(format, args...)}
}

// verdict turns the outcome of a check into a word.
func verdict(err error) Verdict {
	if err == nil {
		return Good
	}
	if _, ok := errors.AsType[*unknownError](err); ok {
		return Unchecked
	}
	return Bad
}

func hashOf(oid string) (crypto.Hash, error) {
	if h, ok := hashes[oid]; ok {
		return h, nil
	}
	return 0, unknown("the digest algorithm %q is not known", oid)
}

func sum(h crypto.Hash, b []byte) []byte {
	d := h.New()
	cursor.Hash(d, b)
	return d.Sum(nil)
}

// certificate returns the one that a signer names.
func (m *message) certificate(si *signer) *certificate {
	for _, c := range m.certs {
		if si.keyID != nil && bytes.Equal(c.keyID, si.keyID) ||
			si.keyID == nil && bytes.Equal(c.serial, si.serial) && bytes.Equal(c.issuer.full, si.issuer) {
			return c
		}
	}
	return nil
}

// verify checks that a signer signed content (section 5.6). Certificates are
// taken as they are.
func (m *message) verify(si *signer, content []byte) error {
	h, err := hashOf(si.digest)
	if err != nil {
		return err
	}
	over := content
	if si.signedBytes != nil {
		digest, ok := first(si.signed, oidMessageDigest)
		switch {
		case !ok:
			return errors.New("the signed attributes do not hold the digest of the content")
		case !bytes.Equal(digest.octets(), sum(h, content)):
			return errors.New("the content is not what was signed")
		}
		over = si.signedBytes
	}
	c := m.certificate(si)
	if c == nil {
		if m.unread > 0 {
			return unknown("the certificate of the signer is not among those that can be read")
		}
		return unknown("the certificate of the signer is not there")
	}
	return verify(c, si, h, over)
}

// verify checks a signature by the key of a certificate (RFC 3370, RFC 4056,
// RFC 5753, RFC 8419).
func verify(c *certificate, si *signer, h crypto.Hash, over []byte) error {
	if c.keyErr != nil {
		return unknown("the key of the signer cannot be used: %v", c.keyErr)
	}
	wrong := errors.New("the signature is not by the key of its certificate")
	switch key := c.key.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < 1024 {
			return unknown("a key of %d bits proves nothing", key.N.BitLen())
		}
		if si.algorithm == oidPSS {
			return verifyPSS(key, si, over, wrong)
		}
		if rsa.VerifyPKCS1v15(key, h, sum(h, over), si.signature) != nil {
			return wrong
		}
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, sum(h, over), si.signature) {
			return wrong
		}
	case ed25519.PublicKey:
		if !ed25519.Verify(key, over, si.signature) {
			return wrong
		}
	default:
		return unknown("signatures by %T are not checked", c.key)
	}
	return nil
}

const oidPSS = "1.2.840.113549.1.1.10"

// verifyPSS checks a signature with RSASSA-PSS (RFC 4055, section 3.1), whose
// parameters name the hash; the length of the salt shows by itself.
func verifyPSS(key *rsa.PublicKey, si *signer, over []byte, wrong error) error {
	h := crypto.SHA1
	if p, ok := si.parameters.elements().maybe(context, 0); ok {
		alg, err := p.first()
		if err != nil {
			return err
		}
		oid, _ := readAlgorithm(alg)
		if h, err = hashOf(oid); err != nil {
			return err
		}
	}
	if rsa.VerifyPSS(key, h, sum(h, over), si.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) != nil {
		return wrong
	}
	return nil
}

// describe fills in who signed.
func (s *Signature) describe(m *message, si *signer) {
	c := m.certificate(si)
	if c == nil {
		return
	}
	s.Signer, s.Organization = title(c.subject), attribute(c.subject, oidOrganization)
	s.Issuer, s.Serial, s.SelfSigned = title(c.issuer), c.serialHex(), c.selfSigned()
	s.NotBefore, s.NotAfter = c.notBefore, c.notAfter
	s.Chain = chain(c, m.certs)
	if s.SelfSigned {
		s.problem("nobody but the signer vouches for the certificate")
	}
}

// stamp finds out when a signature was made, by somebody else's word.
func (s *Signature) stamp(m *message, si *signer) {
	stamps := 0
	for _, a := range si.unsigned {
		for _, v := range a.values {
			if stamps == maxStamps {
				break
			}
			var at time.Time
			var by string
			var err error
			switch a.oid {
			case oidCounter:
				at, by, err = counter(m, v, si.signature)
			case oidTimestamp, oidTimestampMS:
				at, by, err = token(v, si.signature)
			default:
				continue
			}
			stamps++
			if err != nil {
				s.problem("a time stamp does not count: %v", err)
			} else if s.Time.IsZero() || at.Before(s.Time) {
				s.Time, s.TimeBy = at, by
			}
		}
	}
	if s.Time.IsZero() || s.NotAfter.IsZero() {
		return
	}
	if s.Time.After(s.NotAfter) || s.Time.Before(s.NotBefore) {
		s.problem("it was signed on %s, when the certificate was not valid", s.Time.Format(time.DateOnly))
	}
}

// counter reads a counter signature (RFC 5652, section 11.4): a signer of the
// same message who signed the signature and the time.
func counter(m *message, e element, signature []byte) (at time.Time, by string, err error) {
	si, err := readSigner(e)
	if err != nil {
		return at, "", err
	}
	if err := m.verify(&si, signature); err != nil {
		return at, "", err
	}
	t, ok := first(si.signed, oidSigningTime)
	if !ok {
		return at, "", errors.New("it says no time")
	}
	at, err = t.time()
	if err != nil {
		return at, "", err
	}
	return at, title(m.certificate(&si).subject), nil
}

// token reads a time stamp token (RFC 3161, section 2.4.2): a signed message of
// its own about the digest of the signature.
func token(e element, signature []byte) (at time.Time, by string, err error) {
	m, _, err := readMessage(e.full)
	if err != nil {
		return at, "", err
	}
	if m.contentType != oidTSTInfo || m.content == nil || len(m.signers) == 0 {
		return at, "", errors.New("it is no time stamp token")
	}
	info, _, err := next(m.content)
	if err != nil {
		return at, "", err
	}
	s := info.elements()
	s.want(universal, tagInteger) // version
	s.want(universal, tagOID)     // policy
	imprint := s.want(universal, tagSequence).elements()
	s.want(universal, tagInteger) // serial number
	when := s.want(universal, tagTime)
	oid, _ := readAlgorithm(imprint.want(universal, tagSequence))
	digest := imprint.want(universal, tagOctets).octets()
	if s.err != nil || imprint.err != nil {
		return at, "", errBER
	}
	h, err := hashOf(oid)
	if err != nil {
		return at, "", err
	}
	if !bytes.Equal(digest, sum(h, signature)) {
		return at, "", errors.New("it is for another signature")
	}
	si := &m.signers[0]
	if err := m.verify(si, m.content); err != nil {
		return at, "", err
	}
	at, err = when.time()
	return at, title(m.certificate(si).subject), err
}
