package signature

import (
	"bytes"
	"encoding/xml"
	"slices"
)

// Limits on entitlements.
const (
	maxEntitlements    = 200
	maxEntitlementText = 1 << 20 // bytes
)

// entitlements returns the keys of what a binary is granted, from either form.
// A key whose value is false grants nothing.
func entitlements(blobs []blob) []string {
	var keys []string
	if b := find(blobs, slotEntitlements); len(b) > 8 && len(b) <= maxEntitlementText {
		keys = plistKeys(b[8:])
	}
	if b := find(blobs, slotDERentitlements); len(b) > 8 && len(b) <= maxEntitlementText {
		keys = append(keys, derKeys(b[8:])...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// plistKeys returns the keys of the outermost dictionary of an XML property
// list (Apple's PropertyList-1.0.dtd).
func plistKeys(b []byte) (keys []string) {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = false
	depth, key := 0, ""
	for len(keys) < maxEntitlements {
		t, err := d.Token()
		if err != nil {
			break
		}
		switch t := t.(type) {
		case xml.StartElement:
			depth++
			if depth != 3 { // plist, dict, key
				continue
			}
			if t.Name.Local != "key" {
				if key != "" && t.Name.Local != "false" {
					keys = append(keys, key)
				}
				key = ""
				continue
			}
			key = ""
			if text, err := d.Token(); err == nil {
				switch text := text.(type) {
				case xml.CharData:
					key = cut(string(text))
				case xml.EndElement:
					depth--
				}
			}
		case xml.EndElement:
			depth--
		}
	}
	return keys
}

// derKeys returns the keys of entitlements in DER: an application element of a
// version and a dictionary, which is a context element of pairs. Apple
// documents none of it; codesign writes it.
func derKeys(b []byte) (keys []string) {
	const plist, dictionary = 16, 16
	outer, _, err := next(b)
	if err != nil || !outer.is(application, plist) {
		return nil
	}
	s := outer.elements()
	s.want(universal, tagInteger)
	dict, ok := s.next()
	if !ok || !dict.is(context, dictionary) && !dict.is(universal, tagSet) {
		return nil
	}
	for p := dict.elements(); len(keys) < maxEntitlements; {
		pair, ok := p.next()
		if !ok {
			break
		}
		parts := pair.elements()
		key := parts.want(universal, tagUTF8)
		value, ok := parts.next()
		if !ok || value.is(universal, tagBoolean) && notZero(value.body) == 0 {
			continue
		}
		keys = append(keys, key.text())
	}
	return keys
}
