package skeleton

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/value"
)

// function returns the name of the function at an address.
func (w *writer) function(addr uint64) string {
	name, ok := w.names[addr]
	if !ok {
		name = w.nameOf(addr)
		w.names[addr] = name
	}
	return name
}

func (w *writer) nameOf(addr uint64) string {
	name := ""
	if w.opt.Name != nil {
		name = w.opt.Name(addr)
	}
	if fn := w.c.Func(addr); name == "" && fn >= 0 && w.c.Functions[fn].Addr == addr {
		name = w.c.Functions[fn].Name
	}
	if name = clean(name); name != "" {
		return name
	}
	return fmt.Sprintf("sub_%x", addr)
}

// clean makes a name from the file fit for a line of ASCII.
func clean(name string) string {
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, name)
	if len(name) > maxName {
		name = name[:maxName] + "..."
	}
	return name
}

// callee returns what is called, without what a demangler put behind its name.
func (w *writer) callee(v value.Value) string {
	switch v.Kind {
	case value.Function:
		return bare(w.function(v.Addr))
	case value.Import:
		return bare(w.imported(v.Import))
	case value.Result:
		if name := w.lookedUp(v); name != "" {
			return "(*" + w.text(v) + " /* " + name + " */)"
		}
	case value.Unknown:
		return "(*?)"
	}
	return "(*" + w.text(v) + ")"
}

// bare takes the parameters off a demangled name: what stands in parentheses at
// its end. Those inside, as of a receiver in Go, are part of the name.
func bare(name string) string {
	end := name
	if i := strings.Index(end, " [clone "); i > 0 {
		end = end[:i]
	}
	for cut := true; cut; {
		cut = false
		for _, tail := range []string{" const", " volatile", " &&", " &", " noexcept"} {
			if short, ok := strings.CutSuffix(end, tail); ok {
				end, cut = short, true
			}
		}
	}
	if !strings.HasSuffix(end, ")") {
		return name
	}
	depth := 0
	for i := len(end) - 1; i > 0; i-- {
		switch end[i] {
		case ')':
			depth++
		case '(':
			if depth--; depth == 0 {
				switch before := end[:i]; {
				case strings.HasSuffix(before, "operator"), strings.HasSuffix(before, "::"), strings.HasSuffix(before, "."), strings.HasSuffix(before, " "):
					return name
				default:
					return before
				}
			}
		}
	}
	return name
}

// lookups are the functions that find others by name, and which argument that
// is.
var lookups = map[string]int{"dlsym": 1, "dlvsym": 1, "GetProcAddress": 1, "lt_dlsym": 1, "uv_dlsym": 1}

// lookedUp returns the name of a function that an earlier call found.
func (w *writer) lookedUp(v value.Value) string {
	s := w.calls[v.Addr]
	if s == nil || s.Callee.Kind != value.Import {
		return ""
	}
	arg, ok := lookups[w.imported(s.Callee.Import)]
	if !ok || arg >= len(s.Args) || s.Args[arg].Kind != value.String {
		return ""
	}
	return strings.ReplaceAll(clean(s.Args[arg].Text), "*/", "*?")
}

func (w *writer) imported(i int) string {
	if i < 0 || i >= len(w.c.Image.Imports) {
		return "?"
	}
	if name := clean(w.c.Image.Imports[i].Name); name != "" {
		return name
	}
	return fmt.Sprintf("import_%d", i)
}

// text returns a value as it stands among arguments.
func (w *writer) text(v value.Value) string {
	switch v.Kind {
	case value.Const:
		return number(v.Const)
	case value.String:
		return quote(v.Text)
	case value.Address:
		return fmt.Sprintf("data_%x", v.Addr)
	case value.Stack:
		if v.Offset < 0 {
			return fmt.Sprintf("&local_%x", -v.Offset)
		}
		return fmt.Sprintf("&arg_%x", v.Offset)
	case value.Function:
		return bare(w.function(v.Addr))
	case value.Import:
		return w.imported(v.Import)
	case value.Parameter:
		return fmt.Sprintf("a%d", v.Param)
	case value.Result:
		if name := w.results[v.Addr]; name != "" {
			return name
		}
	}
	return "?"
}

// number writes a number as people read it: small ones in decimal, those just
// below zero with a sign, the rest in hexadecimal.
func number(n int64) string {
	if n >= 0xffff_f000 && n <= 0xffff_ffff {
		n = int64(int32(n))
	}
	if n >= -4096 && n < 10_000 {
		return strconv.FormatInt(n, 10)
	}
	return "0x" + strconv.FormatUint(uint64(n), 16)
}

// quote writes a text in ASCII, cut where it gets long.
func quote(text string) string {
	runes := []rune(text)
	if len(runes) <= maxQuoted {
		return strconv.QuoteToASCII(text)
	}
	return strconv.QuoteToASCII(string(runes[:maxQuoted])) + "..."
}

// arity says how many arguments functions have that are often looked for.
var arity = func() map[string]int {
	out := map[string]int{}
	for n, names := range []string{
		"abort fork getpid getppid getuid geteuid GetLastError GetTickCount GetTickCount64 GetCurrentProcess GetCurrentProcessId GetCurrentThreadId IsDebuggerPresent WSAGetLastError WSACleanup GetCommandLineA GetCommandLineW rand",
		"close dlclose exit _exit free malloc getenv puts strlen strdup system unlink rmdir chdir closedir opendir fclose getaddrinfo_a freeaddrinfo gethostbyname inet_addr perror pthread_exit setuid setgid sleep Sleep CloseHandle FreeLibrary LoadLibraryA LoadLibraryW GetModuleHandleA GetModuleHandleW ExitProcess closesocket operator_new",
		"dlopen dlsym fopen popen access kill chmod creat execv listen lstat mkdir mkfifo rename remove stat strcat strchr strcmp strcpy strrchr strstr symlink link calloc realloc inet_aton signal shutdown fputs GetProcAddress WinExec WSAStartup DeleteFileA",
		"chown connect bind accept execve execvp ioctl lseek memcpy memmove memset memcmp mprotect open poll read readlink setenv socket strncmp strncpy write IsWow64Process OpenProcess",
		"fread fwrite getaddrinfo pthread_create recv send qsort ptrace VirtualAlloc VirtualProtect waitid MessageBoxA MessageBoxW",
		"setsockopt getsockopt select prctl ReadFile WriteFile ReadProcessMemory WriteProcessMemory VirtualAllocEx RegOpenKeyExA RegOpenKeyExW InternetOpenA InternetOpenW",
		"mmap mmap64 recvfrom sendto posix_spawn posix_spawnp CreateThread RegSetValueExA RegSetValueExW ShellExecuteA ShellExecuteW",
		"CreateFileA CreateFileW CreateRemoteThread",
	} {
		for name := range strings.FieldsSeq(names) {
			out[name] = n
		}
	}
	return out
}()

// own returns the arguments of a call, as far as they are likely to be its own.
func (w *writer) own(s *value.Step) []value.Value {
	n, ok := w.arityOf(s)
	if !ok {
		return w.trim(s.Args, s.Flow)
	}
	args := s.Args
	for len(args) < n {
		args = append(args[:len(args):len(args)], value.Value{})
	}
	return args[:n]
}

// arguments writes the arguments of a call.
func (w *writer) arguments(s *value.Step) string {
	args := w.own(s)
	text := make([]string, len(args))
	for i, a := range args {
		text[i] = w.text(a)
	}
	if _, ok := w.arityOf(s); !ok {
		n := len(text)
		for n > 0 && text[n-1] == "?" {
			n--
		}
		if len(text)-n > 1 { // they may as well be what something else left
			text = append(text[:n], "...")
		}
	}
	return strings.Join(text, ", ")
}

func (w *writer) arityOf(s *value.Step) (int, bool) {
	name := ""
	switch s.Callee.Kind {
	case value.Import:
		name = w.imported(s.Callee.Import)
	case value.Result:
		name = w.lookedUp(s.Callee)
	}
	n, ok := arity[name]
	return n, ok
}

// trim takes from the end of arguments what nobody put there for this call: the
// function's own parameters where they arrived, and what is not known.
func (w *writer) trim(args []value.Value, flow value.Flow) []value.Value {
	whole := len(args) <= shownArgs
	args = args[:min(len(args), shownArgs)]
	if w.c.Image.Arch == image.X86 {
		if i := slices.IndexFunc(args, func(a value.Value) bool { return a.Kind == value.Unknown }); i >= 0 {
			args, whole = args[:i], true
		}
	}
	if n := w.registers(); n < len(args) && slices.ContainsFunc(args[:n], func(a value.Value) bool { return a.Kind == value.Unknown }) {
		args = args[:n] // what lies on the stack is something else
	}
	for n := len(args); n > 0; n-- {
		a := args[n-1]
		arrived := a.Kind == value.Parameter && a.Param == n-1 && (flow != value.Tail || n > 1)
		if !arrived && (a.Kind != value.Unknown || whole) {
			break
		}
		args = args[:n-1]
	}
	return args
}

// registers returns how many arguments a call passes in registers.
func (w *writer) registers() int {
	switch m := w.c.Image; {
	case m.Arch == image.X86:
		return 0
	case m.Arch == image.ARM, m.Arch == image.X86_64 && m.Format == image.PE:
		return 4
	}
	return shownArgs
}
