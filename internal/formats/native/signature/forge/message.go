package forge

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// Tags of DER.
const (
	integer   = 0x02
	bitString = 0x03
	octets    = 0x04
	sequence  = 0x30
	set       = 0x31
)

// context is the tag of a choice or optional part; made of other elements, if
// made.
func context(n byte, made bool) byte {
	if made {
		return 0xa0 | n
	}
	return 0x80 | n
}

// element encodes one element of X.690 (DER) around its parts.
func element(tag byte, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	var head []byte
	switch n := len(body); {
	case n < 0x80:
		head = []byte{tag, byte(n)}
	case n < 0x100:
		head = []byte{tag, 0x81, byte(n)}
	case n < 0x10000:
		head = []byte{tag, 0x82, byte(n >> 8), byte(n)}
	default:
		head = []byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
	}
	return append(head, body...)
}

// open encodes an element of indefinite length.
func open(tag byte, parts ...[]byte) []byte {
	return slices.Concat([]byte{tag, 0x80}, slices.Concat(parts...), []byte{0, 0})
}

// oid encodes an object identifier.
func oid(arcs ...int) []byte {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err) // all are written in this package
	}
	return b
}

// Object identifiers.
var (
	idSignedData    = oid(1, 2, 840, 113549, 1, 7, 2)
	idData          = oid(1, 2, 840, 113549, 1, 7, 1)
	idContentType   = oid(1, 2, 840, 113549, 1, 9, 3)
	idMessageDigest = oid(1, 2, 840, 113549, 1, 9, 4)
	idSigningTime   = oid(1, 2, 840, 113549, 1, 9, 5)
	idCounter       = oid(1, 2, 840, 113549, 1, 9, 6)
	idTimestamp     = oid(1, 2, 840, 113549, 1, 9, 16, 2, 14)
	idTimestampMS   = oid(1, 3, 6, 1, 4, 1, 311, 3, 3, 1)
	idTSTInfo       = oid(1, 2, 840, 113549, 1, 9, 16, 1, 4)
)

// digests and ecdsas are the algorithms for each hash.
var (
	digests = map[crypto.Hash][]byte{
		crypto.SHA1:   oid(1, 3, 14, 3, 2, 26),
		crypto.SHA256: oid(2, 16, 840, 1, 101, 3, 4, 2, 1),
		crypto.SHA384: oid(2, 16, 840, 1, 101, 3, 4, 2, 2),
		crypto.SHA512: oid(2, 16, 840, 1, 101, 3, 4, 2, 3),
	}
	ecdsas = map[crypto.Hash][]byte{
		crypto.SHA1:   oid(1, 2, 840, 10045, 4, 1),
		crypto.SHA256: oid(1, 2, 840, 10045, 4, 3, 2),
		crypto.SHA384: oid(1, 2, 840, 10045, 4, 3, 3),
		crypto.SHA512: oid(1, 2, 840, 10045, 4, 3, 4),
	}
	null = []byte{5, 0}
)

func attribute(id []byte, values ...[]byte) []byte {
	return element(sequence, id, element(set, values...))
}

// sorted puts attributes into the order that DER asks for in a SET OF.
func sorted(list ...[]byte) [][]byte { return slices.SortedFunc(slices.Values(list), bytes.Compare) }

// A wrapper encodes an element: with its length, or leaving that open.
type wrapper func(tag byte, parts ...[]byte) []byte

// A content is what a message is about.
type content struct {
	id     []byte   // content type
	inside []byte   // the content as an element; nil if it is kept elsewhere
	signed []byte   // the bytes that are hashed
	attrs  [][]byte // further signed attributes
}

// info makes a SignerInfo (RFC 5652, section 5.3), and returns the signature in
// it too.
func (s *signer) info(h crypto.Hash, c content, wrap wrapper, unsigned func(signature []byte) ([][]byte, error)) ([]byte, error) {
	if digests[h] == nil {
		return nil, fmt.Errorf("there is no signature with %s", h)
	}
	attrs := sorted(append(slices.Clone(c.attrs),
		attribute(idContentType, c.id),
		attribute(idMessageDigest, element(octets, hashed(h, c.signed))))...)
	signature, err := s.key.Sign(nil, hashed(h, element(set, attrs...)), h)
	if err != nil {
		return nil, err
	}
	serial := s.cert.SerialNumber.Bytes()
	if serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...)
	}
	parts := [][]byte{
		element(integer, []byte{1}),
		element(sequence, s.cert.RawIssuer, element(integer, serial)),
		element(sequence, digests[h], null),
		wrap(context(0, true), attrs...),
		element(sequence, ecdsas[h]),
		element(octets, signature),
	}
	more, err := unsigned(signature)
	if err != nil {
		return nil, err
	}
	if len(more) > 0 {
		parts = append(parts, wrap(context(1, true), sorted(more...)...))
	}
	return element(sequence, parts...), nil
}

// message makes a ContentInfo with SignedData (section 5.1).
func (s *signer) message(h crypto.Hash, c content, wrap wrapper, certs [][]byte, unsigned func(signature []byte) ([][]byte, error)) ([]byte, error) {
	info, err := s.info(h, c, wrap, unsigned)
	if err != nil {
		return nil, err
	}
	about := [][]byte{c.id}
	if c.inside != nil {
		about = append(about, wrap(context(0, true), c.inside))
	}
	return wrap(sequence, idSignedData, wrap(context(0, true), wrap(sequence,
		element(integer, []byte{1}),
		element(set, element(sequence, digests[h], null)),
		wrap(sequence, about...),
		wrap(context(0, true), append(slices.Clone(s.certs), certs...)...),
		wrap(set, info),
	))), nil
}

// sign makes the message that an order asks for.
func sign(o Order, c content, timestamp []byte, nested ...[]byte) ([]byte, error) {
	s, err := newSigner(o)
	if err != nil {
		return nil, err
	}
	clock, err := newSigner(Order{Signer: "Made-up Clock"})
	if err != nil {
		return nil, err
	}
	wrap := wrapper(element)
	if o.Open {
		wrap = open
	}
	return s.message(o.digest(), c, wrap, clock.certs[:1], func(signature []byte) (out [][]byte, err error) {
		out = slices.Clone(nested)
		if o.Time.IsZero() {
			return out, nil
		}
		id := timestamp
		var value []byte
		if o.Counter {
			id = idCounter
			value, err = clock.counter(o.Time, signature)
		} else {
			value, err = clock.token(o.Time, signature)
		}
		return append(out, attribute(id, value)), err
	})
}

func none([]byte) ([][]byte, error) { return nil, nil }

// counter makes a counter signature (section 11.4).
func (s *signer) counter(at time.Time, signature []byte) ([]byte, error) {
	when := element(0x17, []byte(at.UTC().Format("060102150405Z")))
	return s.info(crypto.SHA256, content{id: idData, signed: signature, attrs: [][]byte{attribute(idSigningTime, when)}}, element, none)
}

// token makes a time stamp token (RFC 3161, section 2.4.2).
func (s *signer) token(at time.Time, signature []byte) ([]byte, error) {
	info := element(sequence,
		element(integer, []byte{1}),
		oid(1, 2, 3),
		element(sequence, element(sequence, digests[crypto.SHA256], null), element(octets, hashed(crypto.SHA256, signature))),
		element(integer, []byte{7}),
		element(0x18, []byte(at.UTC().Format("20060102150405Z"))))
	return s.message(crypto.SHA256, content{id: idTSTInfo, inside: element(octets, info), signed: info}, element, nil, none)
}
