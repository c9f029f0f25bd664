package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/ar"
	"github.com/loupe-sec/loupe/internal/formats/native/elf"
	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
	"github.com/loupe-sec/loupe/internal/formats/native/pe"
)

// A place is where the static libraries of one library are.
type place struct {
	library known.Library
	globs   string
}

const (
	gnu   = "/usr/lib/gcc/*-linux-gnu/*/ /usr/lib/gcc/*-linux-gnu/*/32/ /usr/lib/gcc-cross/*/*/"
	mingw = "/usr/lib/gcc/*-w64-mingw32/*/"
	libc  = "/usr/lib/x86_64-linux-gnu/ /usr/lib32/ /usr/aarch64-linux-gnu/lib/ /usr/lib/aarch64-linux-gnu/"
	host  = "/usr/lib/x86_64-linux-gnu/ /usr/lib/aarch64-linux-gnu/ /usr/lib/i386-linux-gnu/"
)

// installed are the libraries that are looked for, those first whose code
// others may hold copies of.
var installed = []place{
	{known.Libgcc, in(gnu+" "+mingw, "libgcc.a libgcc_eh.a libssp_nonshared.a crtbegin*.o crtend*.o")},
	{known.CompilerRT, "/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.builtins-*.a /usr/lib/clang/*/lib/linux/libclang_rt.builtins-*.a"},
	{known.MinGW, in("/usr/*-w64-mingw32/lib/", "libmingw32.a libmingwex.a libmsvcrt*.a libucrt*.a libmoldname.a libwinpthread.a libpthread.a libkernel32.a libdelayimp.a crt*.o dllcrt*.o gcrt*.o")},
	{known.Musl, "/usr/lib/*-linux-musl/libc.a /usr/lib/*-linux-musl/*crt*.o"},
	{known.Glibc, in(libc, "libc.a libm.a libm-*.a libpthread.a libdl.a librt.a libresolv.a libutil.a libanl.a libnsl.a libcrypt.a libmvec.a libc_nonshared.a libpthread_nonshared.a crt1.o crti.o Scrt1.o rcrt1.o")},
	{known.Libstdcxx, in(gnu+" "+mingw, "libstdc++.a libstdc++fs.a libsupc++.a libstdc++_pic.a")},
	{known.Libcxx, "/usr/lib/llvm-*/lib/libc++.a /usr/lib/llvm-*/lib/libc++abi.a"},
	{known.RustStd, "/usr/lib/rustlib/*/lib/*.rlib " + filepath.Join(os.Getenv("HOME"), ".rustup/toolchains/*/lib/rustlib/*/lib/*.rlib")},
	{known.Zlib, in(host, "libz.a")},
	{known.OpenSSL, in(host, "libcrypto.a libssl.a")},
	{known.SQLite, in(host, "libsqlite3.a")},
	{known.Libuv, in(host, "libuv.a libuv_a.a")},
}

// in returns the patterns of files in folders.
func in(folders, names string) string {
	var out []string
	for folder := range strings.FieldsSeq(folders) {
		for name := range strings.FieldsSeq(names) {
			out = append(out, folder+name)
		}
	}
	return strings.Join(out, " ")
}

// paths returns the files that are there, each once, below the roots.
func (p place) paths(roots []string) (out []string) {
	seen := map[string]bool{}
	for _, root := range roots {
		for pattern := range strings.FieldsSeq(p.globs) {
			found, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, path := range found {
				if real, err := filepath.EvalSymlinks(path); err == nil && !seen[real] {
					seen[real] = true
					out = append(out, path)
				}
			}
		}
	}
	return out
}

// library adds the functions of a static library, or of one object.
func (c *collection) library(l known.Library, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	members := []ar.Member{{Data: data}}
	if ar.Is(data) {
		members, _ = ar.Members(data)
	} else if text := string(data[:min(len(data), 64)]); strings.HasPrefix(text, "/*") || strings.HasPrefix(text, "GROUP") {
		return nil // a linker script, which names the libraries
	}
	count := 0
	for _, m := range members {
		count += c.object(l, m.Data)
	}
	if count > 0 {
		c.source(c.shown(path), l.String(), data, count, 1)
	}
	return nil
}

// shown returns how a file is called in SOURCES.txt: without the root that it is
// below, and with the package that it is from.
func (c *collection) shown(path string) string {
	name := path
	if home := os.Getenv("HOME"); home != "" && strings.HasPrefix(name, home+"/") {
		name = "~" + strings.TrimPrefix(name, home)
	}
	for _, root := range c.roots {
		if root != "/" {
			name = strings.TrimPrefix(name, root)
		}
	}
	if owner := c.owner[path]; owner != "" {
		name += " (" + owner + ")"
	}
	return name
}

// object adds the functions of an object.
func (c *collection) object(l known.Library, data []byte) int {
	var m *image.Image
	var err error
	var slots known.Slots
	switch {
	case elf.Is(data):
		m, err = elf.Parse(data)
	case pe.IsObject(data) && !pe.IsImport(data):
		m, err = pe.ParseObject(data)
	default:
		return 0
	}
	if err != nil || m == nil {
		return 0
	}
	var refs map[uint64]string
	if m.Format == image.PE {
		refs = pointers(m)
	}
	n := 0
	for i, e := range known.Extents(m, m.Functions.List) {
		if refs != nil {
			slots = func(at int, _ uint64) string { return refs[e.Addr+uint64(at)] }
		}
		if name := m.Functions.List[i].Name; name == "main" || name == "_main" {
			continue
		}
		if k, size := known.KeyOf(m.Arch, e.Addr, e.Code, slots); size > 0 {
			c.add(m.Arch, k, entry{library: l, size: size})
			n++
		}
	}
	return n
}

// pointers returns the imports whose pointers the relocations of a COFF object
// name, by the address of the operand ("PE Format", COFF Relocations).
func pointers(m *image.Image) map[uint64]string {
	const headerSize, sectionSize, relocationSize, symbolSize = 20, 40, 10, 18
	b := m.Data
	le := binary.LittleEndian
	if len(b) < headerSize {
		return nil
	}
	sections, symtab, count := int(le.Uint16(b[2:])), int(le.Uint32(b[8:])), int(le.Uint32(b[12:]))
	strs := symtab + count*symbolSize
	if strs > len(b) {
		return nil
	}
	out := map[uint64]string{}
	for i := range sections {
		h := b[headerSize+i*sectionSize:]
		at, n := int(le.Uint32(h[24:])), int(le.Uint16(h[32:]))
		if i >= len(m.Sections) || at+n*relocationSize > len(b) {
			return out
		}
		for ; n > 0; n, at = n-1, at+relocationSize {
			s := b[symtab+int(le.Uint32(b[at+4:]))*symbolSize:]
			name := string(bytes.TrimRight(s[:8], "\x00"))
			if le.Uint32(s) == 0 {
				name, _, _ = strings.Cut(string(b[strs+int(le.Uint32(s[4:])):]), "\x00")
			}
			if imp, ok := strings.CutPrefix(name, "__imp_"); ok && le.Uint16(s[12:]) == 0 {
				if m.Arch == image.X86 {
					imp, _, _ = strings.Cut(strings.TrimPrefix(imp, "_"), "@")
				}
				out[m.Sections[i].Addr+uint64(le.Uint32(b[at:]))] = imp
			}
		}
	}
	return out
}
