package groundtruth

import (
	"cmp"
	"fmt"
	"os/exec"
	"strings"
)

// A target is a kind of machine and system, and the tools that build for it.
type target struct {
	name, os, arch string
	tool           string   // the compiler
	compile        []string // its flags
	link           []string // the linker and its flags; nil: the compiler links as well
	hosted         bool     // with the system's own C library, as a whole program
	static         bool     // which is linked in
}

var freestanding = []string{"-c", "-std=gnu99", "-w", "-ffreestanding", "-fno-builtin", "-fno-stack-protector"}

func clang(name, os, arch, triple string, link ...string) *target {
	return &target{name: name, os: os, arch: arch, tool: "clang-16", compile: append([]string{"--target=" + triple}, freestanding...), link: link}
}

func hosted(name, os, arch, tool string, flags ...string) *target {
	t := &target{name: name, os: os, arch: arch, tool: tool, hosted: true, compile: append([]string{"-std=gnu99", "-w", "-fno-builtin"}, flags...)}
	for _, f := range flags {
		t.static = t.static || f == "-static"
	}
	return t
}

// targets are all that C is compiled for.
var targets = []*target{
	clang("elf-x86_64", "linux", "x86_64", "x86_64-linux-gnu", "ld.lld-16"),
	clang("elf-x86", "linux", "x86", "i686-linux-gnu", "ld.lld-16"),
	clang("elf-aarch64", "linux", "aarch64", "aarch64-linux-gnu", "ld.lld-16"),
	clang("elf-arm", "linux", "arm", "armv7-linux-gnueabihf", "ld.lld-16"),
	clang("elf-riscv64", "linux", "riscv64", "riscv64-linux-gnu", "ld.lld-16"),
	clang("pe-x86_64", "windows", "x86_64", "x86_64-pc-windows-msvc", "lld-link-16", "/nodefaultlib", "/debug:symtab", "/machine:x64"),
	clang("pe-x86", "windows", "x86", "i686-pc-windows-msvc", "lld-link-16", "/nodefaultlib", "/debug:symtab", "/safeseh:no", "/machine:x86"),
	clang("pe-aarch64", "windows", "aarch64", "aarch64-pc-windows-msvc", "lld-link-16", "/nodefaultlib", "/debug:symtab", "/machine:arm64"),
	clang("macho-x86_64", "darwin", "x86_64", "x86_64-apple-macos11", "ld64.lld-16", "-arch", "x86_64"),
	clang("macho-aarch64", "darwin", "aarch64", "arm64-apple-macos11", "ld64.lld-16", "-arch", "arm64"),
	clang("wasm", "wasi", "wasm32", "wasm32", "wasm-ld-16"),
	hosted("gcc", "linux", "x86_64", "gcc"),
	hosted("gcc-static", "linux", "x86_64", "gcc", "-static"),
	hosted("gcc-aarch64", "linux", "aarch64", "aarch64-linux-gnu-gcc"),
	hosted("gcc-arm", "linux", "arm", "arm-linux-gnueabihf-gcc"),
	hosted("gcc-riscv64", "linux", "riscv64", "riscv64-linux-gnu-gcc"),
	hosted("mingw", "windows", "x86_64", "x86_64-w64-mingw32-gcc"),
	hosted("mingw-x86", "windows", "x86", "i686-w64-mingw32-gcc"),
}

// binutil returns the tool of a name for the programs of a target. Each
// compiler's own knows its programs best.
func (t *target) binutil(name string) string {
	if prefix, ok := strings.CutSuffix(t.tool, "gcc"); ok {
		return prefix + name
	}
	return "llvm-" + name + "-16"
}

// there reports whether the tools of a target are.
func (t *target) there() bool {
	for _, tool := range []string{t.tool, cmp.Or(append(t.link, "")[0], t.tool), t.binutil("nm"), t.binutil("strip"), "llvm-dlltool-16"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false
		}
	}
	return true
}

// libraries are the names of files of libraries by system; of those that are
// not named here, the name in the plan is the one of a DLL.
var libraries = map[string]map[string]string{
	"linux":   {"c": "libc.so.6", "curl": "libcurl.so.4", "ssl": "libssl.so.3"},
	"darwin":  {"c": "/usr/lib/libSystem.B.dylib", "curl": "/usr/lib/libcurl.4.dylib", "Security": "/System/Library/Frameworks/Security.framework/Versions/A/Security"},
	"windows": {"c": "KERNEL32.dll", "node": "node.exe", "python": "python312.dll"},
}

// fileName returns the name under which programs know a library.
func (t *target) fileName(library string) string {
	return cmp.Or(libraries[t.os][library], library+".dll")
}

// can reports whether a program can be built for t at all.
func (t *target) can(b *behavior, v Variant) bool {
	if b == nil {
		return v == Control
	}
	calls, kernel := b.calls[t.os], b.kernel[t.os]
	elsewhere := false // in a library that is not there
	for _, c := range calls {
		if t.hosted && c.library != "c" && t.os != "windows" {
			elsewhere = true
		}
	}
	switch v {
	case Control:
		return false
	case Direct, Wrapper:
		return !t.static && (b.table != "" || len(calls) > 0 && !elsewhere)
	case Dynamic:
		return !t.static && len(calls) > 0 && t.os != "wasi"
	case Encoded:
		return !t.static && len(calls) > 0 && t.os != "wasi" && !(b.through && elsewhere)
	case Syscall:
		return len(kernel) > 0 && numbers[t.os+"/"+t.arch] != nil && !t.static
	case Static:
		return t.static && len(calls) > 0 && !elsewhere
	}
	return false
}

// command returns the commands that build a program from source into out.
func (p *program) command(source, object, out string, imports []string) [][]string {
	t := p.target
	bit := func(n int) bool { return p.seed>>(8+n)&1 == 1 }
	compile := append([]string{t.tool}, t.compile...)
	compile = append(compile, "-"+p.opt)
	if t.arch == "arm" && t.hosted && (p.variant == Syscall || p.way == "kernel") {
		compile = append(compile, "-marm") // Thumb keeps the frame where the number belongs
	}
	if t.hosted {
		compile = append(compile, "-o", out, source)
		if t.os == "windows" {
			compile = append(compile, "-lws2_32", "-ladvapi32", "-lwinhttp", "-lsecur32")
		}
		return [][]string{compile}
	}
	library := p.root != "start"
	if t.os == "linux" {
		switch {
		case library:
			compile = append(compile, "-fPIC")
		case bit(0):
			compile = append(compile, "-fPIE")
		default:
			compile = append(compile, "-fno-pic")
		}
		if bit(1) && t.arch != "arm" && t.arch != "x86" && t.arch != "riscv64" {
			compile = append(compile, "-fno-plt")
		}
		if t.arch == "arm" && p.variant != Syscall && p.way != "kernel" && bit(2) {
			compile = append(compile, "-mthumb")
		}
	}
	if bit(5) || bit(6) { // as compilers do for whole systems; small ones leave them out
		compile = append(compile, "-fasynchronous-unwind-tables")
	}
	compile = append(compile, "-o", object, source)
	link := append([]string{}, t.link...)
	switch t.os {
	case "linux":
		switch {
		case library:
			link = append(link, "-shared")
		case bit(0):
			link = append(link, "-pie", "-e", "start", "--dynamic-linker=/lib/ld-linux.so")
		default:
			link = append(link, "-e", "start", "--dynamic-linker=/lib/ld-linux.so")
		}
		if bit(3) {
			link = append(link, "-z", "now")
		}
		link = append(link, "--as-needed", "--unresolved-symbols=ignore-all", "-o", out, object)
		link = append(link, imports...)
	case "windows":
		if library {
			link = append(link, "/dll", "/noentry")
		} else {
			link = append(link, "/entry:start", "/subsystem:console")
		}
		link = append(link, "/out:"+out, object)
		link = append(link, imports...)
	case "darwin":
		if library {
			link = append(link, "-dylib")
		} else {
			link = append(link, "-e", "_start")
		}
		if bit(4) {
			link = append(link, "-fixup_chains")
		}
		link = append(link, "-platform_version", "macos", "11.0", "11.0", "-undefined", "dynamic_lookup", "-o", out, object)
		link = append(link, imports...)
	case "wasi":
		link = append(link, "--no-entry", "--no-gc-sections", "--export=compute", "-Map="+out+".map", "-o", out, object)
		if p.stripped {
			link = append(link, "-s")
		}
	}
	return [][]string{compile, link}
}

// decorated returns the name of a function in an import library.
func (t *target) decorated(c call) string {
	if t.arch == "x86" && c.library != "msvcrt" && c.library != "node" && c.library != "python" {
		return fmt.Sprintf("%s@%d", c.name, 4*len(c.args))
	}
	return c.name
}

// stub returns the text of what stands for a library when programs are linked:
// C, a list of exports, or Apple's description.
func (t *target) stub(library string, calls []call) string {
	var b strings.Builder
	switch t.os {
	case "linux":
		for _, c := range calls {
			fmt.Fprintf(&b, "int %s(void) { return 0; }\n", c.name)
		}
	case "windows":
		fmt.Fprintf(&b, "LIBRARY %s\nEXPORTS\n", t.fileName(library))
		for _, c := range calls {
			b.WriteString(t.decorated(c) + "\n")
		}
	case "darwin":
		arch := map[string]string{"x86_64": "x86_64", "aarch64": "arm64"}[t.arch]
		var list []string
		for _, c := range calls {
			list = append(list, "_"+c.name)
		}
		fmt.Fprintf(&b, "--- !tapi-tbd\ntbd-version: 4\ntargets: [ %s-macos ]\ninstall-name: '%s'\nexports:\n  - targets: [ %s-macos ]\n    symbols: [ %s ]\n...\n", arch, t.fileName(library), arch, strings.Join(list, ", "))
	}
	return b.String()
}
