package rust

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// maxAudit bounds the audit data after unpacking, in bytes: a thousand crates
// need about a hundred thousand.
const maxAudit = 8 << 20

// readAudit reads the dependency list that cargo auditable embeds: JSON packed
// with zlib in a section named .dep-v0 (its PARSING.md). It reports whether
// there is such a section.
func (i *Info) readAudit(m *image.Image) bool {
	for _, name := range []string{".dep-v0", "__DATA,.dep-v0"} {
		packed := m.Bytes(m.Section(name))
		if len(packed) == 0 {
			continue
		}
		if err := i.decodeAudit(packed); err != nil {
			i.notef("Rust audit data: %v", err)
		}
		return true
	}
	return false
}

func (i *Info) decodeAudit(packed []byte) error {
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	dec := json.NewDecoder(io.LimitReader(r, maxAudit))
	if err := expect(dec, '{'); err != nil {
		return err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		if key != "packages" {
			var skip json.RawMessage
			if err := dec.Decode(&skip); err != nil {
				return err
			}
			continue
		}
		if err := expect(dec, '['); err != nil {
			return err
		}
		for dec.More() {
			var p struct {
				Name    string `json:"name"`
				Version string `json:"version"`
				Source  string `json:"source"`
				Kind    string `json:"kind"`
				Root    bool   `json:"root"`
			}
			if err := dec.Decode(&p); err != nil {
				return err
			}
			if len(i.Crates) >= maxCrates {
				return fmt.Errorf("more than %d crates: the others are left out", maxCrates)
			}
			if p.Source != "git" && p.Source != "local" {
				p.Source = "registry" // the default one by its name, others as "registry"
			}
			i.Crates = append(i.Crates, Crate{Name: p.Name, Version: p.Version, Origin: p.Source, Source: Audit, Root: p.Root, Build: p.Kind == "build"})
		}
		if err := expect(dec, ']'); err != nil {
			return err
		}
	}
	return nil
}

func expect(dec *json.Decoder, want json.Delim) error {
	got, err := dec.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%v where %v should be", got, want)
	}
	return nil
}
