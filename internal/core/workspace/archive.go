package workspace

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"
	"time"
)

// An archive is a file whose members are shown as a folder. It is read when
// that folder is first listed.
type archive struct {
	file *file
	kind kind

	label string // of an archive that is shown as a folder only; else empty
	strip int    // folders that are left out of each member's name

	flight flight
	root   atomic.Pointer[builtDir] // nil until read
	name   atomic.Pointer[string]   // "tar.gz", "zip"; nil until read
	base   content                  // what the members are parts of
}

// prefix names, in a note, an archive that has no path of its own.
func (a *archive) prefix() string {
	if a.label == "" {
		return ""
	}
	return a.label + ": "
}

// list implements folder. shown is the path of the folder, not of the file.
func (a *archive) list(ctx context.Context, w *Workspace, shown string) ([]node, error) {
	if err := w.alive(ctx); err != nil {
		return nil, err
	}
	if root := a.root.Load(); root != nil {
		return root.nodes, nil
	}
	if err := a.flight.enter(ctx); err != nil {
		return nil, err
	}
	defer a.flight.leave()
	if root := a.root.Load(); root != nil {
		return root.nodes, nil
	}
	b := &builder{w: w, ctx: ctx, archive: a, shown: shown, began: time.Now()}
	err := b.read()
	if stop := w.alive(ctx); stop != nil {
		w.budget.giveBack(b.entries, b.bytes)
		return nil, stop
	}
	b.finish(err)
	a.name.Store(&b.name)
	a.root.Store(&b.root)
	return b.root.nodes, nil
}

// A builder makes the folder of one archive from what its reader finds.
type builder struct {
	w       *Workspace
	ctx     context.Context
	archive *archive
	shown   string // path of the folder
	began   time.Time
	name    string // of the type of archive

	root    builtDir
	outside []outsider
	links   []leaving
	notes   []Note
	more    int // notes left out

	// What was taken from the budget:
	entries int
	bytes   int64
}

// An outsider is a member with a name too short to strip folders off.
type outsider struct {
	name string
	file *file
}

// A leaving link points out of the archive by its text.
type leaving struct{ name, target string }

// maxLinks bounds what is remembered of them.
const maxLinks = 4000

// maxNotes is how many notes one archive may leave about its members. The rest
// are counted.
const maxNotes = 100

// note leaves a note about a member, or about the archive if raw is empty.
func (b *builder) note(raw, format string, args ...any) {
	if len(b.notes) >= maxNotes {
		b.more++
		return
	}
	at := b.shown
	if raw != "" {
		parts, _ := splitName(raw[:min(len(raw), b.w.budget.limits.NameBytes)])
		at = path.Join(at, path.Join(b.stripped(parts)...))
	}
	b.notes = append(b.notes, Note{at, fmt.Sprintf(format, args...)})
}

// proceed is to be asked now and then while reading.
func (b *builder) proceed() error { return b.w.proceed(b.ctx, b.began) }

// read reads the archive with the reader for its kind.
func (b *builder) read() error {
	a := b.archive
	b.name = a.kind.String()
	if a.kind.compressed() {
		return b.readStream()
	}
	a.base = &shared{of: a.file.content}
	h, err := a.base.open(b.ctx)
	if err != nil {
		return err
	}
	defer h.close()
	defer func() { b.w.budget.spend(b.began) }()
	switch a.kind {
	case tarKind:
		return readTar(b, &tarFile{b: b, src: h})
	case zipKind:
		return readZip(b, h)
	default:
		return readAr(b, h)
	}
}

// finish sorts what was found. err is why the archive was not read to its end.
func (b *builder) finish(err error) {
	file := strings.TrimSuffix(b.shown, "!")
	if err != nil {
		b.w.notes.addf(file, "not looked at to the end: %s%v", b.archive.prefix(), reason(trimmed(err)))
	}
	for _, o := range b.outside {
		name := b.root.put(node{name: o.name, file: o.file})
		b.w.notes.addf(path.Join(b.shown, name), "lies outside of the folder that the other members are in")
	}
	b.outside = nil
	b.strays()
	b.w.notes.add(b.notes...)
	if b.more > 0 {
		b.w.notes.addf(file, "%s%d more notes about its members are left out", b.archive.prefix(), b.more)
	}
	b.root.finish()
}

func (b *builder) stripped(parts []string) []string {
	return parts[min(b.archive.strip, max(len(parts)-1, 0)):]
}

// A member is a file in an archive, as its reader describes it.
type member struct {
	name    string // as the archive has it
	mode    fs.FileMode
	size    int64
	content content
}

// file adds a regular file. It fails only when nothing more can be added.
func (b *builder) file(m member) error {
	parts, ok := b.parts(m.name)
	if !ok {
		return nil
	}
	f := &file{
		part: b.archive.file.part, size: m.size, mode: m.mode & modeBits,
		depth: b.archive.file.depth + 1, content: m.content, embedded: b.archive.file.embedded,
	}
	if err := b.takeEntry(); err != nil {
		return err
	}
	if len(parts) <= b.archive.strip {
		b.outside = append(b.outside, outsider{parts[len(parts)-1], f})
		return nil
	}
	parts = parts[b.archive.strip:]
	dir, err := b.dir(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	name := parts[len(parts)-1]
	if old, taken := dir.children[name]; taken && old.dir == nil {
		shown := dir.displace(name)
		if b.archive.kind != arKind { // static libraries repeat names by design
			b.note(m.name, "an earlier member of this name is shown as %s", shown)
		}
	}
	if put := dir.put(node{name: name, file: f}); put != name {
		b.note(m.name, "shown as %s: a folder has this name", put)
	}
	return nil
}

// folder adds a folder that the archive lists, which may be empty.
func (b *builder) folder(raw string) error {
	if strings.Trim(raw, "./") == "" {
		return nil
	}
	parts, ok := b.parts(raw)
	if !ok || len(parts) <= b.archive.strip {
		return nil // the root itself needs no entry
	}
	_, err := b.dir(parts[b.archive.strip:])
	return err
}

// link notes a link that leads out of the archive. No link is followed: what
// those inside lead to is shown where it lies.
func (b *builder) link(raw, target string, hard bool) {
	name := raw
	if hard {
		name = "" // hard links are relative to the archive
	}
	switch {
	case !leaves(name, target):
	case len(b.links) < maxLinks:
		most := b.w.budget.limits.NameBytes
		b.links = append(b.links, leaving{strings.Clone(raw[:min(len(raw), most)]), strings.Clone(target[:min(len(target), most)])})
	default:
		b.more++
	}
}

// strays notes the links that lead to nothing in the archive even if its root
// is that of a file system, as in packages and images of systems.
func (b *builder) strays() {
	for _, l := range b.links {
		if parts, _ := splitName(l.target); !strings.HasPrefix(l.target, "/") || !b.has(parts) {
			b.note(l.name, "not looked at: a link that leads out of the archive, to %s", brief(l.target))
		}
	}
	b.links = nil
}

func (b *builder) has(parts []string) bool {
	dir := &b.root
	for i, part := range parts {
		n, ok := dir.children[part]
		if !ok || n.dir == nil {
			return ok && i == len(parts)-1
		}
		dir = n.dir.(*builtDir)
	}
	return true
}

// refuse notes a member that is not shown.
func (b *builder) refuse(raw, format string, args ...any) {
	b.note(raw, "not looked at: "+format, args...)
}

// parts checks a member's name and returns its parts as they are shown.
func (b *builder) parts(raw string) ([]string, bool) {
	limits := &b.w.budget.limits
	if len(raw) > limits.NameBytes {
		b.refuse("", "a member with a name of %d bytes, more than %d: %s", len(raw), limits.NameBytes, brief(raw))
		return nil, false
	}
	parts, wrong := splitName(raw)
	if len(parts)-1 > limits.PathDepth {
		b.refuse("", "a member more than %d folders deep: %s", limits.PathDepth, brief(raw))
		return nil, false
	}
	if len(parts) == 0 {
		parts, wrong = []string{"unnamed"}, "is empty"
	}
	if wrong != "" {
		b.note(raw, "its name in the archive %s: %s", wrong, brief(raw))
	}
	return parts, true
}

// dir returns the folder with that path, which it makes if need be.
func (b *builder) dir(parts []string) (*builtDir, error) {
	dir := &b.root
	for _, part := range parts {
		if old, taken := dir.children[part]; taken && old.dir == nil {
			b.note("", "the member %s is shown as %s: a folder has this name", brief(part), dir.displace(part))
		}
		next, ok := dir.children[part]
		if !ok {
			if err := b.takeEntry(); err != nil {
				return nil, err
			}
			dir.put(node{name: part, dir: &builtDir{}})
			next = dir.children[part]
		}
		dir = next.dir.(*builtDir)
	}
	return dir, nil
}

func (b *builder) takeEntry() error {
	if err := b.w.budget.takeEntry(); err != nil {
		return err
	}
	b.entries++
	if b.entries%1024 == 0 {
		return b.proceed()
	}
	return nil
}

// takeBytes charges the size of a member that lies in the archive as it is,
// and returns how much of it may be kept.
func (b *builder) takeBytes(raw string, n int64) (int64, error) {
	keep := n
	if most := b.w.budget.limits.FileBytes; keep > most {
		keep = most
		b.note(raw, "cut off after %d of %d bytes: more than one file may have", most, n)
	}
	got, err := b.w.budget.takeBytes(keep)
	b.bytes += got
	return got, err
}
