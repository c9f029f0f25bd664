// Package synth makes small native binaries from a description: real ELF, PE,
// Mach-O and WebAssembly files with the imports, exports, strings, functions
// and sections that were asked for and as little else as the format allows.
// Detection rules carry such descriptions as examples, and tests of parsers
// use them where no compiler is at hand.
//
// It refuses to guess: a property that a format cannot express is an error,
// and equal descriptions give equal bytes. It links nothing and runs nothing.
//
//	format: elf
//	imports: [connect@libc.so.6, "memcpy@GLIBC_2.14"]
//	exports:
//	  - name: napi_register_module_v1
//	    calls: [{name: connect, args: [3, "10.0.0.1"]}]
//	strings: [/etc/shadow]
package synth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of what is built.
const (
	MaxSize = 64 << 20 // bytes of a binary, and of its memory
	MaxYAML = 1 << 20  // bytes of a description
	maxName = 4 << 10  // bytes of a symbol, library or section name
	maxCode = 1 << 20  // bytes of one function
)

// A Description says what a binary holds. The zero value of each field but
// Format is fine.
type Description struct {
	Format string `yaml:"format"` // elf, pe, macho or wasm
	// Arch is x86_64 (the default), x86, aarch64, arm or riscv64 for ELF,
	// the first three for PE, x86_64 and aarch64 for Mach-O; several give a
	// fat Mach-O file. Wasm knows wasm32 only.
	Arch List   `yaml:"arch"`
	Kind string `yaml:"kind"` // library (default), executable; object for elf, driver for pe, bundle for macho
	// OS is linux (default), android, freebsd, netbsd or openbsd for ELF,
	// windows or uefi for PE, macos, ios, tvos or watchos for Mach-O.
	OS   string `yaml:"os"`
	Name string `yaml:"name"` // SONAME, name in the PE export table, LC_ID_DYLIB, Wasm module name

	Libraries []string     `yaml:"libraries"` // needed; those that imports name are added behind
	Imports   []Import     `yaml:"imports"`
	Exports   []Definition `yaml:"exports"`
	Symbols   []Definition `yaml:"symbols"` // for the symbol table; without any the file is stripped
	Code      Code         `yaml:"code"`    // functions without a name

	Strings []string `yaml:"strings"` // NUL-terminated, in .rodata, .rdata, __cstring or Wasm data
	Wide    []string `yaml:"wide"`    // the same in UTF-16LE
	Bytes   []Hex    `yaml:"bytes"`   // read-only data, each from a multiple of 16

	Sections []Section `yaml:"sections"` // further ones; custom sections for Wasm
	RPath    []string  `yaml:"rpath"`    // ELF RUNPATH, LC_RPATH
	Interp   string    `yaml:"interp"`   // ELF interpreter or Mach-O dynamic linker; executables have a default
	Comment  []string  `yaml:"comment"`  // ELF .comment, Wasm producers; among the strings for the others
	Signed   bool      `yaml:"signed"`   // ad-hoc Mach-O signature with right hashes; PE certificate table without a signer
	Signer   Signer    `yaml:"signer"`   // who signs it, and what is wrong with that
	Overlay  Content   `yaml:"overlay"`  // bytes behind the end of the image (for a signed PE in front of the certificate)

	Go   []string `yaml:"go"`   // names of Go functions, described by a .gopclntab of Go 1.20; ELF only
	Rust bool     `yaml:"rust"` // what rustc leaves: its version, a panic path, rust_eh_personality
}

// An Import is a function or variable that the binary takes from elsewhere.
// In YAML a plain name will do.
//
// If neither Library nor Version is set, Name may end in "@" and a library:
// "connect@WS2_32.dll". For PE it must hold a dot; for ELF it must hold
// ".so", else it is a version, as in "memcpy@GLIBC_2.14". A Wasm library is
// a module and "env" by default. A PE import without a library comes from the
// first of Libraries, or KERNEL32.dll. A Mach-O import without one is looked
// up in all images (flat namespace), as add-ons do with their host.
type Import struct {
	Name    string `yaml:"name"`
	Library string `yaml:"library"`
	Version string `yaml:"version"` // ELF; its library defaults to that of GNU for GLIBC, GLIBCXX, CXXABI and GCC
	Ordinal int    `yaml:"ordinal"` // PE: by number; Name is then only what calls say
	Delay   bool   `yaml:"delay"`   // PE
	Weak    bool   `yaml:"weak"`    // ELF, Mach-O
	Data    bool   `yaml:"data"`    // a variable; a global i32 for Wasm
}

// A Definition is a function or variable that the binary holds. In YAML a
// plain name will do. A symbol with the name of an export is that export.
//
// The body of a function is Code, then the strings of Loads, then Calls, then
// a return; Code alone is taken as it is, and nothing gives a lone return.
type Definition struct {
	Name    string   `yaml:"name"`
	Data    bool     `yaml:"data"`    // a variable of zeros
	Size    int      `yaml:"size"`    // of a variable in bytes, 8 by default
	Ordinal int      `yaml:"ordinal"` // PE export
	Forward string   `yaml:"forward"` // PE export that is in truth elsewhere: "NTDLL.RtlAllocateHeap"
	Code    Hex      `yaml:"code"`
	Loads   []string `yaml:"loads"` // strings whose address the function takes
	Calls   []Call   `yaml:"calls"`
}

// A Call is a call of an import or definition by its name. In YAML a plain
// name will do.
type Call struct {
	Name string `yaml:"name"`
	Args []Arg  `yaml:"args"`
}

// An Arg is a string, passed as its address, or a number of 32 bits.
type Arg struct {
	Text     string
	Number   int64
	IsNumber bool
}

// A Section is a named run of bytes.
type Section struct {
	// Name is ".name", for Mach-O "__SEGMENT,__section" or a section of
	// __TEXT or, if writable, __DATA.
	Name    string `yaml:"name"`
	Content `yaml:",inline"`
	Size    int    `yaml:"size"`  // in bytes; without content: memory that the file has no bytes for
	Flags   string `yaml:"flags"` // of r, w and x, "r" by default; "-" is not mapped (ELF only)
}

// Content is some bytes.
type Content struct {
	Hex    Hex    `yaml:"hex"`
	Text   string `yaml:"text"`
	Random int    `yaml:"random"` // so many bytes of high entropy, equal for equal names
}

// Hex is bytes, written as hexadecimal digits and white space.
type Hex []byte

// A List is one or several strings.
type List []string

// Code is functions without a name: hex, a definition, or a list of them.
type Code []Definition

// Build makes the binary. The result of equal descriptions is equal.
func Build(d Description) ([]byte, error) {
	if d.Signer.Name != "" && d.Format == "macho" {
		d.Signed = true // makes room
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	var files [][]byte
	for _, arch := range d.arches() {
		p, err := newPlan(d, arch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Format, err)
		}
		var data []byte
		switch d.Format {
		case "elf":
			data, err = buildELF(p)
		case "pe":
			data, err = buildPE(p)
		case "macho":
			data, err = buildMachO(p)
		case "wasm":
			data, err = buildWasm(p)
		}
		if err == nil {
			data, err = d.Signer.sign(d.Format, arch, data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Format, err)
		}
		files = append(files, data)
	}
	data := files[0]
	if len(files) > 1 {
		data = fatMachO(d.arches(), files)
	}
	if d.Format == "macho" || d.Format == "elf" { // a PE's lies in front of its certificate
		data = append(data, d.Overlay.bytes("overlay")...)
	}
	if len(data) > MaxSize {
		return nil, errTooLarge
	}
	return data, nil
}

var errTooLarge = fmt.Errorf("the binary would be larger than %d MB", MaxSize>>20)

// archNames are the spellings of instruction sets.
var archNames = map[string]string{
	"x86_64": "x86_64", "amd64": "x86_64", "x64": "x86_64",
	"x86": "x86", "i386": "x86", "i686": "x86", "ia32": "x86",
	"aarch64": "aarch64", "arm64": "aarch64",
	"arm": "arm", "riscv64": "riscv64", "wasm32": "wasm32",
}

// A dialect says which words a format understands.
type dialect struct{ arches, kinds, systems []string }

var dialects = map[string]dialect{
	"elf": {
		[]string{"x86_64", "x86", "aarch64", "arm", "riscv64"}, []string{"library", "executable", "object"},
		[]string{"linux", "android", "freebsd", "netbsd", "openbsd"},
	},
	"pe": {
		[]string{"x86_64", "x86", "aarch64"}, []string{"library", "executable", "driver"},
		[]string{"windows", "uefi"},
	},
	"macho": {
		[]string{"x86_64", "aarch64"}, []string{"library", "executable", "bundle"},
		[]string{"macos", "ios", "tvos", "watchos"},
	},
	"wasm": {[]string{"wasm32"}, []string{"library", "executable"}, []string{"", "wasi"}},
}

// arches returns the instruction sets in their usual spelling.
func (d *Description) arches() []string {
	if len(d.Arch) == 0 {
		return dialects[d.Format].arches[:1]
	}
	var out []string
	for _, a := range d.Arch {
		out = append(out, cmp.Or(archNames[a], a))
	}
	return out
}

// check refuses what the format cannot express, and what would be too large,
// and fills in defaults.
func (d *Description) check() error {
	words, ok := dialects[d.Format]
	if len(d.Arch) > len(archNames) {
		return fmt.Errorf("%d architectures are too many", len(d.Arch))
	}
	if !ok {
		return fmt.Errorf("format %q is none of elf, pe, macho, wasm", d.Format)
	}
	if d.Kind == "" {
		d.Kind = "library"
	}
	if d.OS == "" {
		d.OS = words.systems[0]
	}
	var errs []error
	oneOf := func(field, got string, all []string) {
		if !slices.Contains(all, got) {
			errs = append(errs, fmt.Errorf("%s: %s %q is none of %s", d.Format, field, got, strings.Join(all, ", ")))
		}
	}
	oneOf("kind", d.Kind, words.kinds)
	oneOf("os", d.OS, words.systems)
	seen := map[string]bool{}
	for _, a := range d.arches() {
		oneOf("arch", a, words.arches)
		if seen[a] {
			errs = append(errs, fmt.Errorf("arch %q twice", a))
		}
		seen[a] = true
	}
	refuse := func(asked bool, field string, formats ...string) {
		for _, f := range formats {
			if asked && f == d.Format {
				errs = append(errs, fmt.Errorf("%s cannot express %s", f, field))
			}
		}
	}
	refuse(len(d.Arch) > 1, "several architectures", "elf", "pe", "wasm")
	refuse(len(d.RPath) > 0, "rpath", "pe", "wasm")
	refuse(d.Interp != "", "interp", "pe", "wasm")
	refuse(d.Signed, "signed", "elf", "wasm")
	refuse(d.Overlay.size() > 0, "overlay", "wasm")
	refuse(len(d.Go) > 0, "go", "pe", "macho", "wasm")
	for _, i := range d.Imports {
		refuse(i.Version != "", "import version", "pe", "macho", "wasm")
		refuse(i.Ordinal != 0, "import ordinal", "elf", "macho", "wasm")
		refuse(i.Delay, "delay import", "elf", "macho", "wasm")
		refuse(i.Weak, "weak import", "pe", "wasm")
	}
	for _, e := range d.Exports {
		refuse(e.Ordinal != 0, "export ordinal", "elf", "macho", "wasm")
		refuse(e.Forward != "", "forwarded export", "elf", "macho", "wasm")
	}
	return errors.Join(append(errs, d.Signer.check(d.Format), d.checkNames(), d.checkSize())...)
}

// checkNames refuses names that no string table could hold.
func (d *Description) checkNames() error {
	var errs []error
	name := func(field, s string) {
		if (s == "" || len(s) > maxName || strings.IndexByte(s, 0) >= 0) && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("%s: %.40q is no name", field, s))
		}
	}
	optional := func(field, s string) {
		if s != "" {
			name(field, s)
		}
	}
	for _, l := range d.Libraries {
		name("libraries", l)
	}
	for _, i := range d.Imports {
		if i.Ordinal == 0 {
			name("imports", i.Name)
		}
		optional("imports", i.Library)
		optional("imports", i.Version)
		if i.Ordinal < 0 || i.Ordinal > 0xffff {
			errs = append(errs, fmt.Errorf("imports: ordinal %d", i.Ordinal))
		}
	}
	for _, e := range d.Exports {
		name("exports", e.Name)
		optional("exports", e.Forward)
		if e.Ordinal < 0 || e.Ordinal > 0xffff {
			errs = append(errs, fmt.Errorf("exports: ordinal %d", e.Ordinal))
		}
	}
	for _, s := range d.Symbols {
		name("symbols", s.Name)
		if s.Ordinal != 0 || s.Forward != "" {
			errs = append(errs, fmt.Errorf("symbols: %q: ordinal and forward are for exports", s.Name))
		}
	}
	for _, f := range d.Code {
		if f.Name != "" || f.Data || f.Ordinal != 0 || f.Forward != "" {
			errs = append(errs, errors.New("code: has no name and is no data; that belongs in symbols or exports"))
		}
	}
	for _, f := range d.Go {
		name("go", f)
	}
	for _, r := range d.RPath {
		name("rpath", r)
	}
	for _, s := range d.Sections {
		name("sections", s.Name)
		if strings.Trim(s.Flags, "rwx") != "" && (s.Flags != "-" || d.Format != "elf") {
			errs = append(errs, fmt.Errorf("sections: flags %q are not of r, w and x", s.Flags))
		}
	}
	for _, c := range d.Comment {
		if strings.IndexByte(c, 0) >= 0 {
			errs = append(errs, fmt.Errorf("comment: %.40q holds a NUL", c))
		}
	}
	optional("name", d.Name)
	optional("interp", d.Interp)
	return errors.Join(errs...)
}

// checkSize refuses what could grow past MaxSize before anything is built.
func (d *Description) checkSize() error {
	const each = 160 // of headers, stubs, table entries and padding
	var total int64
	add := func(n int) bool {
		if n < 0 || n > MaxSize {
			total += MaxSize + 1
		}
		total += int64(n)
		return total <= MaxSize
	}
	for _, list := range [][]string{d.Libraries, d.Strings, d.Wide, d.Wide, d.RPath, d.Comment, d.Go} {
		for _, s := range list {
			if !add(len(s) + 1) {
				return errTooLarge
			}
		}
	}
	if !add(each * (len(d.Go) + len(d.Imports))) {
		return errTooLarge
	}
	for _, b := range d.Bytes {
		if !add(len(b) + 16) {
			return errTooLarge
		}
	}
	for _, i := range d.Imports {
		if !add(len(i.Name) + len(i.Library) + len(i.Version)) {
			return errTooLarge
		}
	}
	for _, defs := range [][]Definition{d.Exports, d.Symbols, d.Code} {
		for _, f := range defs {
			if !add(each+len(f.Name)+len(f.Forward)) || !add(len(f.Code)) || !add(f.Size) {
				return errTooLarge
			}
			if len(f.Code)+64*(len(f.Loads)+len(f.Calls)) > maxCode {
				return fmt.Errorf("function %q would be larger than %d bytes", f.Name, maxCode)
			}
			for _, l := range f.Loads {
				if !add(32 + len(l)) {
					return errTooLarge
				}
			}
			for _, c := range f.Calls {
				for _, a := range c.Args {
					if !add(len(a.Text)) {
						return errTooLarge
					}
				}
				if !add(32 * (1 + len(c.Args))) {
					return errTooLarge
				}
			}
		}
	}
	for _, s := range d.Sections {
		if !add(each+len(s.Name)) || !add(s.Size) || !add(s.Content.size()) || s.Random < 0 {
			return errTooLarge
		}
	}
	if !add(d.Overlay.size()) || d.Overlay.Random < 0 || total*int64(max(1, len(d.Arch))) > MaxSize {
		return errTooLarge
	}
	return nil
}

func (c *Content) size() int { return len(c.Hex) + len(c.Text) + c.Random }

// bytes returns the content; name seeds the random part.
func (c *Content) bytes(name string) []byte {
	return bytes.Join([][]byte{c.Hex, []byte(c.Text), random(name, c.Random)}, nil)
}

// access returns a section's flags, "r" if there are none.
func (s *Section) access() (write, execute, mapped bool) {
	return strings.Contains(s.Flags, "w"), strings.Contains(s.Flags, "x"), s.Flags != "-"
}

// data returns a section's bytes in the file, padded to its size; none if it
// only takes memory.
func (s *Section) data() []byte {
	b := s.Content.bytes(s.Name)
	if len(b) > 0 && len(b) < s.Size {
		b = append(b, make([]byte, s.Size-len(b))...)
	}
	return b
}
