package synth

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/loupe-sec/loupe/internal/formats/native/signature/forge"
)

// A Signer signs a PE or Mach-O binary in a made-up name. In YAML a plain name
// will do.
type Signer struct {
	Name         string `yaml:"name"`         // none leaves what Signed makes
	Organization string `yaml:"organization"` // Name by default
	Itself       bool   `yaml:"itself"`       // nobody else vouches for the signer
	Only         string `yaml:"only"`         // the machine whose part of a fat file is signed by Name; all by default
	Timestamp    bool   `yaml:"timestamp"`    // there is a time stamp
	Hidden       int    `yaml:"hidden"`       // bytes in places that the signature does not cover
	Changed      bool   `yaml:"changed"`      // a byte was changed afterwards
}

// stamped is when all time stamps are from.
var stamped = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

const maxHidden = 1 << 20

func (s *Signer) check(format string) error {
	switch {
	case *s == Signer{}:
		return nil
	case format != "pe" && format != "macho":
		return errors.New(format + " cannot express signer")
	case s.Hidden < 0 || s.Hidden > maxHidden:
		return errors.New("signer: that many hidden bytes are too many")
	case len(s.Name) > maxName || len(s.Organization) > maxName:
		return errors.New("signer: the name is too long")
	}
	return nil
}

// sign signs a file for one machine.
func (s *Signer) sign(format, arch string, data []byte) ([]byte, error) {
	if s.Name != "" && (s.Only == "" || archNames[s.Only] == arch) {
		o := forge.Order{Signer: s.Name, Organization: s.Organization, Hidden: s.Hidden}
		if s.Itself {
			o.Issuer = s.Name
		}
		if s.Timestamp {
			o.Time = stamped
		}
		make := forge.PE
		if format == "macho" {
			make = forge.MachO
		}
		var err error
		if data, err = make(data, o); err != nil {
			return nil, err
		}
		if format == "pe" {
			at := data[peHeader+24+64:]
			binary.LittleEndian.PutUint32(at, 0)
			binary.LittleEndian.PutUint32(at, checksum(data))
		}
	}
	if s.Changed {
		data = changed(format, data)
	}
	return data, nil
}

// changed changes a byte that nothing depends on but the signature: of the
// words that a PE file has for DOS, or behind the load commands of Mach-O.
func changed(format string, data []byte) []byte {
	data = slices.Clone(data)
	at := bytes.Index(data, []byte("DOS mode"))
	if format == "macho" {
		at = 32 + int(binary.LittleEndian.Uint32(data[20:]))
	}
	if at >= 0 && at < len(data) {
		data[at] ^= 1
	}
	return data
}

// UnmarshalYAML accepts a name or a mapping.
func (s *Signer) UnmarshalYAML(node ast.Node) error {
	type plain Signer
	if name, ok := text(node); ok {
		*s = Signer{Name: name}
		return nil
	}
	return decode(node, (*plain)(s))
}
