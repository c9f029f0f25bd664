package nativedep

import (
	"errors"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/target"
)

var errNotText = errors.New("it is no text in UTF-8")

// readPipfile reads Pipfile.lock (documentation of Pipenv, "Pipfile.lock"), which
// has a group of packages for each of its parts but "_meta". It names hashes of
// archives and no archives.
func readPipfile(d *draft, data []byte) error {
	s := newStream(data)
	return s.object(func(group string) error {
		if group == "_meta" {
			return s.skip()
		}
		return s.object(func(name string) error {
			line := s.line()
			var p struct {
				Version  text  `json:"version"`
				Path     text  `json:"path"`
				Git      text  `json:"git"`
				File     text  `json:"file"`
				Editable truth `json:"editable"`
			}
			if err := s.value(&p); err != nil {
				return err
			}
			version, exactly := strings.CutPrefix(string(p.Version), "==")
			switch {
			case p.Path != "" || bool(p.Editable):
			case p.Git != "" || p.File != "" || !exactly:
				d.leave(notByRegistry, name)
			default:
				d.add(target.PyPI, name, strings.TrimPrefix(version, "="), entry{line: line, why: saysNothing})
			}
			return nil
		})
	})
}
