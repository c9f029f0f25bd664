package nativedep

import (
	"bytes"
	"errors"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/target"
)

// errNotOne says that a file does not have what all of its kind have.
var errNotOne = errors.New("it does not say of which version of the format it is")

// readYarn reads yarn.lock, that of yarn 1 (documentation of yarn 1, "yarn.lock")
// and that of yarn 2 and later, which is YAML.
func readYarn(d *draft, data []byte) error {
	d.says = append(d.says, noScripts)
	if bytes.Contains(data[:min(len(data), 4096)], []byte("__metadata:")) {
		d.readBerry(data)
		return nil
	}
	if !bytes.Contains(data[:min(len(data), 4096)], []byte("yarn lockfile v1")) {
		return errNotOne
	}
	d.blind = true
	d.readClassic(data)
	return nil
}

// readClassic reads the format of yarn 1, whose keys are the ranges that are asked for.
func (d *draft) readClassic(data []byte) {
	var e entry
	var key, version, resolved string
	end := func() {
		if key == "" {
			return
		}
		name, wanted := cutVersion(unquote(strings.TrimSpace(firstRange(key))))
		if real, ok := strings.CutPrefix(wanted, "npm:"); ok { // an alias
			name, wanted = cutVersion(real)
		}
		switch {
		case ownFolder(wanted):
		case resolved != "" && !fromRegistry(name, version, resolved):
			d.leave(notByRegistry, name)
		default:
			d.add(target.NPM, name, version, e)
		}
	}
	for l := range outline(data, cutClassic) {
		switch {
		case len(l.under) == 0:
			end()
			key, version, resolved, e = l.key, "", "", entry{line: l.number}
		case len(l.under) == 1 && l.key == "version":
			version = l.value
		case len(l.under) == 1 && l.key == "resolved":
			resolved = l.value
		case len(l.under) == 2 && l.under[1] == "dependencies":
			e.needs = append(e.needs, l.key)
		case len(l.under) == 2 && l.under[1] == "optionalDependencies":
			e.needs, e.options = append(e.needs, l.key), append(e.options, l.key)
		}
	}
	end()
}

// firstRange returns the first of the ranges that stand in a key.
func firstRange(key string) string {
	if inside, _, ok := cutQuoted(key); ok {
		key = inside
	}
	first, _, _ := strings.Cut(key, ", ")
	return first
}

// readBerry reads the format of yarn 2 and later, which says where each package
// comes from in "resolution": name@npm:1.0.0.
func (d *draft) readBerry(data []byte) {
	var e entry
	resolution := ""
	end := func() {
		name, from := cutVersion(resolution)
		protocol, version, _ := strings.Cut(from, ":")
		switch protocol {
		case "", "workspace", "link", "portal", "patch": // the project's own; what is patched is in the file too
		case "file":
			if !ownFolder(strings.Split(from, "::")[0]) {
				d.leave(notByRegistry, name)
			}
		case "npm":
			version, archive, _ := strings.Cut(version, "::")
			if strings.Contains(archive, "__archiveUrl=") && !strings.Contains(archive, "%2F-%2F") {
				d.leave(notByRegistry, name)
				return
			}
			d.add(target.NPM, name, version, e)
		default:
			d.leave(notByRegistry, name)
		}
	}
	for l := range outline(data, cutYAML) {
		switch {
		case len(l.under) == 0:
			end()
			resolution, e = "", entry{line: l.number}
		case len(l.under) == 1 && l.key == "resolution":
			resolution = l.value
		case len(l.under) == 1 && l.key == "conditions":
			e.platform = true
		case len(l.under) == 2 && l.under[1] == "dependencies":
			e.needs = append(e.needs, l.key)
		case len(l.under) == 3 && l.under[1] == "dependenciesMeta" && l.key == "optional" && l.value == "true":
			e.options = append(e.options, l.under[2])
		}
	}
	end()
}
