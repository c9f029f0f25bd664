package signature

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A certificate is what is needed of one of RFC 5280, section 4.1. Those in old
// signatures often break a rule that crypto/x509 insists on, such as the
// characters of a name; what they say is wanted all the same.
type certificate struct {
	serial    []byte // big-endian
	issuer    element
	subject   element
	notBefore time.Time
	notAfter  time.Time
	key       any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey; nil if it cannot be used
	keyErr    error  // why not
	keyID     []byte // subject key identifier
}

const oidKeyID = "2.5.29.14"

func readCertificate(e element) (*certificate, error) {
	s := e.elements()
	tbs := s.want(universal, tagSequence)
	if s.err != nil {
		return nil, s.err
	}
	s = tbs.elements()
	s.maybe(context, 0) // version
	c := &certificate{serial: s.want(universal, tagInteger).body}
	s.want(universal, tagSequence) // the algorithm of its signature
	c.issuer = s.want(universal, tagSequence)
	validity := s.want(universal, tagSequence)
	c.subject = s.want(universal, tagSequence)
	key := s.want(universal, tagSequence)
	if s.err != nil {
		return nil, s.err
	}
	if v := validity.elements(); v.err == nil {
		from, _ := v.next()
		to, _ := v.next()
		var err error
		if c.notBefore, err = from.time(); err != nil {
			return nil, err
		}
		if c.notAfter, err = to.time(); err != nil {
			return nil, err
		}
	}
	c.key, c.keyErr = readKey(key)
	s.maybe(context, 1) // unique identifiers
	s.maybe(context, 2)
	if ext, ok := s.maybe(context, 3); ok {
		c.keyID = readKeyID(ext)
	}
	return c, nil
}

// readKey reads a SubjectPublicKeyInfo.
func readKey(e element) (any, error) {
	const mostBits = 8 << 10 // a larger one is there to take time
	key, err := x509.ParsePKIXPublicKey(e.full)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*rsa.PublicKey); ok && k.N.BitLen() > mostBits {
		return nil, fmt.Errorf("a key of %d bits is not looked at", k.N.BitLen())
	}
	return key, nil
}

// readKeyID finds the subject key identifier among extensions.
func readKeyID(ext element) []byte {
	list, err := ext.first()
	if err != nil {
		return nil
	}
	for s := list.elements(); ; {
		e, ok := s.next()
		if !ok {
			return nil
		}
		parts := e.elements()
		if id, _ := parts.next(); id.oid() != oidKeyID {
			continue
		}
		parts.maybe(universal, tagBoolean)
		if id, _, err := next(parts.want(universal, tagOctets).body); err == nil {
			return id.body
		}
		return nil
	}
}

// Attributes of names.
const (
	oidCommonName   = "2.5.4.3"
	oidOrganization = "2.5.4.10"
	oidUnit         = "2.5.4.11"
)

// attribute returns the last attribute of a type in a name, "" if it has none.
func attribute(name element, oid string) (value string) {
	for s := name.elements(); ; {
		set, ok := s.next()
		if !ok {
			return value
		}
		for t := set.elements(); ; {
			pair, ok := t.next()
			if !ok {
				break
			}
			p := pair.elements()
			typ, _ := p.next()
			if v, ok := p.next(); ok && typ.oid() == oid {
				value = v.text()
			}
		}
	}
}

// title returns what a name is called by: its common name, else its unit or
// organization.
func title(name element) string {
	for _, oid := range []string{oidCommonName, oidUnit, oidOrganization} {
		if v := attribute(name, oid); v != "" {
			return v
		}
	}
	return ""
}

func (c *certificate) selfSigned() bool { return bytes.Equal(c.issuer.full, c.subject.full) }

func (c *certificate) serialHex() string {
	s := hex.EncodeToString(c.serial[:min(len(c.serial), 64)])
	if t := strings.TrimLeft(s, "0"); len(t) < len(s) { // a zero in front keeps it positive
		return s[(len(s)-len(t))&^1:]
	}
	return s
}

// chain follows issuers from a certificate up, as far as certificates are
// there, by name alone.
func chain(from *certificate, all []*certificate) (subjects []string) {
	const longest = 10
	bySubject := map[string]*certificate{}
	for _, c := range all {
		bySubject[string(c.subject.full)] = c
	}
	for c := from; c != nil && len(subjects) < longest; {
		subjects = append(subjects, title(c.subject))
		if c.selfSigned() {
			break
		}
		c = bySubject[string(c.issuer.full)]
	}
	return subjects
}
