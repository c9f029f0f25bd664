package groundtruth

import "github.com/loupe-sec/loupe/internal/core/inventory"

const (
	network    = inventory.Network
	filesystem = inventory.Filesystem
	process    = inventory.Process
	crypto     = inventory.Crypto
	hiding     = inventory.Obfuscation
	theft      = inventory.DataExfiltration
)

// A call is a call of a function from elsewhere.
//
// Its arguments are numbers; texts, quoted as in C; $0 for what the first call
// returned; and the names of things that every plant has: buf, 64 bytes of
// memory, addr, the address of a host that does not exist, and argv, the words
// of a command.
type call struct {
	name    string
	library string // "c": the system's own
	args    []string
}

func fn(name string, args ...string) call { return call{name, "c", args} }

// from sets the library of calls.
func from(library string, calls ...call) []call {
	for i := range calls {
		calls[i].library = library
	}
	return calls
}

// A behavior is what can be planted.
type behavior struct {
	name    string
	want    []inventory.BehaviorName
	may     []inventory.BehaviorName
	rule    string
	calls   map[string][]call // by system; one that is not there has no such functions
	kernel  map[string][]call // by system: the system calls that do the same
	table   string            // name of a constant that the code computes with, instead of calls
	through bool              // what tells the purpose is a text, which the encoded variant hides as well
}

func names(list ...inventory.BehaviorName) []inventory.BehaviorName { return list }

// plan is all that can be planted.
var plan = []behavior{
	{name: "connect", want: names(network), rule: "connects-out",
		calls: systems{
			unix:    {fn("socket", "2", "1", "6"), fn("connect", "$0", "addr", "16")},
			windows: from("WS2_32", fn("socket", "2", "1", "6"), fn("connect", "$0", "addr", "16")),
			wasi:    {fn("sock_connect", "3", "addr", "443")},
		}.all(),
		kernel: systems{unix: {fn("socket", "2", "1", "6"), fn("connect", "$0", "addr", "16")}}.all()},
	{name: "listen", want: names(network), rule: "listens",
		calls: systems{
			unix:    {fn("socket", "2", "1", "0"), fn("bind", "$0", "addr", "16"), fn("listen", "$0", "5"), fn("accept", "$0", "0", "0")},
			windows: from("WS2_32", fn("socket", "2", "1", "0"), fn("bind", "$0", "addr", "16"), fn("listen", "$0", "5"), fn("accept", "$0", "0", "0")),
			wasi:    {fn("sock_accept", "3", "0", "buf")},
		}.all(),
		kernel: systems{
			linux:  {fn("socket", "2", "1", "0"), fn("bind", "$0", "addr", "16"), fn("listen", "$0", "5"), fn("accept4", "$0", "0", "0", "0")},
			darwin: {fn("socket", "2", "1", "0"), fn("bind", "$0", "addr", "16"), fn("listen", "$0", "5"), fn("accept", "$0", "0", "0")},
		}.all()},
	{name: "dns", want: names(network), rule: "resolves-names",
		calls: systems{
			unix:    {fn("getaddrinfo", `"registry.example"`, `"443"`, "0", "buf")},
			windows: from("WS2_32", fn("getaddrinfo", `"registry.example"`, `"443"`, "0", "buf")),
		}.all()},
	{name: "http", want: names(network), rule: "http-client",
		calls: systems{
			unix: from("curl", fn("curl_easy_init"), fn("curl_easy_setopt", "$0", "10002", `"https://registry.example/list"`), fn("curl_easy_perform", "$0")),
			windows: from("WINHTTP", fn("WinHttpOpen", `L"agent"`, "0", "0", "0", "0"), fn("WinHttpConnect", "$0", `L"registry.example"`, "443", "0"),
				fn("WinHttpOpenRequest", "$1", `L"GET"`, `L"/list"`, "0", "0", "0", "0"), fn("WinHttpSendRequest", "$2", "0", "0", "0", "0", "0", "0")),
		}.all()},
	{name: "udp", want: names(network), rule: "sends-datagrams",
		calls: systems{
			unix:    {fn("socket", "2", "2", "17"), fn("sendto", "$0", "buf", "64", "0", "addr", "16")},
			windows: from("WS2_32", fn("socket", "2", "2", "17"), fn("sendto", "$0", "buf", "64", "0", "addr", "16")),
		}.all(),
		kernel: systems{unix: {fn("socket", "2", "2", "17"), fn("sendto", "$0", "buf", "64", "0", "addr", "16")}}.all()},
	{name: "tls", want: names(network), rule: "speaks-tls",
		calls: systems{
			linux:   from("ssl", fn("SSL_CTX_new", "0"), fn("SSL_new", "$0"), fn("SSL_connect", "$1")),
			darwin:  from("Security", fn("SSLCreateContext", "0", "1", "0"), fn("SSLHandshake", "$0")),
			windows: from("SECUR32", fn("AcquireCredentialsHandleW", "0", `L"Schannel"`, "2", "0", "0", "0", "0", "buf", "0")),
		}.all()},
	{name: "read file", want: names(filesystem), rule: "reads-writes-files",
		calls: systems{
			unix:    {fn("open", `"/var/tmp/input.dat"`, "0"), fn("read", "$0", "buf", "64")},
			windows: {fn("CreateFileA", `"C:\\Temp\\input.dat"`, "0x80000000", "1", "0", "3", "0", "0"), fn("ReadFile", "$0", "buf", "64", "0", "0")},
			wasi:    {fn("path_open", "3", "0", `"input.dat"`, "9"), fn("fd_read", "$0", "buf", "1", "0")},
		}.all(),
		kernel: systems{
			linux:  {fn("openat", "-100", `"/var/tmp/input.dat"`, "0", "0"), fn("read", "$0", "buf", "64")},
			darwin: {fn("open", `"/var/tmp/input.dat"`, "0", "0"), fn("read", "$0", "buf", "64")},
		}.all()},
	{name: "write file", want: names(filesystem), rule: "reads-writes-files",
		calls: systems{
			unix:    {fn("fopen", `"/var/tmp/output.dat"`, `"wb"`), fn("fwrite", "buf", "1", "64", "$0")},
			windows: {fn("CreateFileW", `L"C:\\Temp\\output.dat"`, "0x40000000", "0", "0", "2", "0", "0"), fn("WriteFile", "$0", "buf", "64", "0", "0")},
		}.all(),
		kernel: systems{
			linux:  {fn("openat", "-100", `"/var/tmp/output.dat"`, "577", "420"), fn("write", "$0", "buf", "64")},
			darwin: {fn("open", `"/var/tmp/output.dat"`, "1537", "420"), fn("write", "$0", "buf", "64")},
		}.all()},
	{name: "delete", want: names(filesystem), rule: "deletes-files",
		calls: systems{
			unix:    {fn("unlink", `"/var/tmp/old.dat"`)},
			windows: {fn("DeleteFileW", `L"C:\\Temp\\old.dat"`)},
			wasi:    {fn("path_unlink_file", "3", `"old.dat"`, "7")},
		}.all(),
		kernel: systems{
			linux:  {fn("unlinkat", "-100", `"/var/tmp/old.dat"`, "0")},
			darwin: {fn("unlink", `"/var/tmp/old.dat"`)},
		}.all()},
	{name: "list folder", want: names(filesystem), rule: "lists-folders",
		calls: systems{
			unix:    {fn("opendir", `"/var/tmp"`), fn("readdir", "$0")},
			windows: {fn("FindFirstFileW", `L"C:\\Temp\\*"`, "buf"), fn("FindNextFileW", "$0", "buf")},
			wasi:    {fn("fd_readdir", "3", "buf", "64", "0")},
		}.all(),
		kernel: systems{linux: {fn("openat", "-100", `"/var/tmp"`, "65536", "0"), fn("getdents64", "$0", "buf", "64")}}.all()},
	{name: "permissions", want: names(filesystem), rule: "changes-permissions",
		calls: systems{
			unix:    {fn("chmod", `"/var/tmp/tool"`, "493")},
			windows: from("ADVAPI32", fn("SetFileSecurityW", `L"C:\\Temp\\tool"`, "4", "buf")),
		}.all(),
		kernel: systems{
			linux:  {fn("fchmodat", "-100", `"/var/tmp/tool"`, "493")},
			darwin: {fn("chmod", `"/var/tmp/tool"`, "493")},
		}.all()},
	{name: "rename", want: names(filesystem), rule: "changes-files",
		calls: systems{
			unix:    {fn("rename", `"/var/tmp/old.dat"`, `"/var/tmp/new.dat"`)},
			windows: {fn("MoveFileExW", `L"C:\\Temp\\old.dat"`, `L"C:\\Temp\\new.dat"`, "1")},
			wasi:    {fn("path_rename", "3", `"old.dat"`, "7", "3", `"new.dat"`, "7")},
		}.all(),
		kernel: systems{
			linux:  {fn("renameat2", "-100", `"/var/tmp/old.dat"`, "-100", `"/var/tmp/new.dat"`, "0")},
			darwin: {fn("rename", `"/var/tmp/old.dat"`, `"/var/tmp/new.dat"`)},
		}.all()},
	{name: "run program", want: names(process), rule: "starts-programs",
		calls: systems{
			unix:    {fn("fork"), fn("execve", `"/usr/bin/true"`, "argv", "0")},
			windows: {fn("CreateProcessW", "0", `L"notepad.exe"`, "0", "0", "0", "0", "0", "0", "buf", "buf")},
		}.all(),
		kernel: systems{unix: {fn("execve", `"/usr/bin/true"`, "argv", "0")}}.all()},
	{name: "shell", want: names(process), rule: "runs-shell", through: true,
		calls: systems{
			unix:    {fn("system", `"id > /dev/null"`)},
			windows: from("msvcrt", fn("system", `"ver > NUL"`)),
		}.all(),
		kernel: systems{unix: {fn("execve", `"/bin/sh"`, "argv", "0")}}.all()},
	{name: "kill", want: names(process), rule: "ends-processes",
		calls: systems{
			unix:    {fn("kill", "4242", "15")},
			windows: {fn("OpenProcess", "1", "0", "4242"), fn("TerminateProcess", "$0", "1")},
		}.all(),
		kernel: systems{unix: {fn("kill", "4242", "15")}}.all()},
	{name: "trace", want: names(process), rule: "inspects-processes",
		calls: systems{
			linux:   {fn("ptrace", "16", "4242", "0", "0"), fn("waitpid", "4242", "0", "0")},
			darwin:  {fn("task_for_pid", "259", "4242", "buf"), fn("mach_vm_read", "$0", "4096", "64", "buf", "buf")},
			windows: {fn("OpenProcess", "16", "0", "4242"), fn("ReadProcessMemory", "$0", "4096", "buf", "64", "0")},
		}.all(),
		kernel: systems{linux: {fn("ptrace", "16", "4242", "0", "0"), fn("wait4", "4242", "0", "0", "0")}}.all()},
	{name: "inject", want: names(process), rule: "injects-code",
		calls: systems{
			linux:   {fn("ptrace", "16", "4242", "0", "0"), fn("process_vm_writev", "4242", "buf", "1", "buf", "1", "0"), fn("waitpid", "4242", "0", "0")},
			darwin:  {fn("task_for_pid", "259", "4242", "buf"), fn("mach_vm_allocate", "$0", "buf", "4096", "1"), fn("mach_vm_write", "$0", "4096", "buf", "64"), fn("thread_create_running", "$0", "6", "buf", "42", "buf")},
			windows: {fn("OpenProcess", "0x1fffff", "0", "4242"), fn("VirtualAllocEx", "$0", "0", "4096", "0x3000", "64"), fn("WriteProcessMemory", "$0", "$1", "buf", "64", "0"), fn("CreateRemoteThread", "$0", "0", "0", "$1", "0", "0", "0")},
		}.all(),
		kernel: systems{linux: {fn("ptrace", "16", "4242", "0", "0"), fn("process_vm_writev", "4242", "buf", "1", "buf", "1", "0"), fn("wait4", "4242", "0", "0", "0")}}.all()},
	{name: "run from memory", want: names(process), rule: "runs-code-from-memory",
		calls: systems{
			linux:  {fn("memfd_create", `"x"`, "1"), fn("write", "$0", "buf", "64"), fn("fexecve", "$0", "argv", "0")},
			darwin: {fn("NSCreateObjectFileImageFromMemory", "buf", "64", "buf"), fn("NSLinkModule", "buf", `"x"`, "0")},
		}.all(),
		kernel: systems{linux: {fn("memfd_create", `"x"`, "1"), fn("write", "$0", "buf", "64"), fn("execveat", "$0", `""`, "argv", "0", "4096")}}.all()},
	{name: "persist", want: names(process), may: names(filesystem), through: true,
		calls: systems{
			linux:   {fn("fopen", `"/etc/cron.d/refresh"`, `"w"`), fn("fputs", `"@daily root /usr/bin/true\n"`, "$0")},
			darwin:  {fn("fopen", `"/Library/LaunchAgents/com.example.refresh.plist"`, `"w"`), fn("fputs", `"<plist/>"`, "$0")},
			windows: from("ADVAPI32", fn("RegOpenKeyExA", "0x80000001", `"Software\\Microsoft\\Windows\\CurrentVersion\\Run"`, "0", "2", "buf"), fn("RegSetValueExA", "$0", `"refresh"`, "0", "1", "buf", "64")),
		}.all(),
		kernel: systems{linux: {fn("openat", "-100", `"/etc/cron.d/refresh"`, "577", "420"), fn("write", "$0", "buf", "64")}}.all()},
	{name: "anti-debug", want: names(hiding), may: names(process), rule: "looks-for-debugger",
		calls: systems{
			linux:   {fn("ptrace", "0", "0", "1", "0"), fn("_exit", "1")},
			darwin:  {fn("ptrace", "31", "0", "0", "0")},
			windows: {fn("IsDebuggerPresent"), fn("CheckRemoteDebuggerPresent", "-1", "buf")},
		}.all(),
		kernel: systems{linux: {fn("ptrace", "0", "0", "1", "0")}, darwin: {fn("ptrace", "31", "0", "0", "0")}}.all()},
	{name: "random", want: names(filesystem), rule: "reads-entropy-device", through: true,
		calls:  systems{unix: {fn("open", `"/dev/urandom"`, "0"), fn("read", "$0", "buf", "32")}}.all(),
		kernel: systems{linux: {fn("openat", "-100", `"/dev/urandom"`, "0", "0"), fn("read", "$0", "buf", "32")}}.all()},
	{name: "steal a key", want: names(theft, network, filesystem), rule: "reads-credentials", through: true,
		calls: systems{
			unix: {fn("open", `"/root/.ssh/id_rsa"`, "0"), fn("read", "$0", "buf", "64"), fn("socket", "2", "1", "6"), fn("connect", "$2", "addr", "16"), fn("send", "$2", "buf", "64", "0")},
			windows: append([]call{fn("CreateFileA", `"C:\\Users\\Public\\.aws\\..\\.ssh\\id_rsa"`, "0x80000000", "1", "0", "3", "0", "0"), fn("ReadFile", "$0", "buf", "64", "0", "0")},
				from("WS2_32", fn("socket", "2", "1", "6"), fn("connect", "$2", "addr", "16"), fn("send", "$2", "buf", "64", "0"))...),
		}.all(),
		kernel: systems{linux: {fn("openat", "-100", `"/root/.ssh/id_rsa"`, "0", "0"), fn("read", "$0", "buf", "64"), fn("socket", "2", "1", "6"), fn("connect", "$2", "addr", "16"), fn("sendto", "$2", "buf", "64", "0", "0", "0")}}.all()},
	{name: "send environment", want: names(theft, network), rule: "sends-environment",
		calls: systems{
			unix: {fn("gethostname", "buf", "64"), fn("socket", "2", "1", "6"), fn("connect", "$1", "addr", "16"), fn("send", "$1", "buf", "64", "0")},
			windows: append([]call{fn("GetEnvironmentStringsW")},
				from("WS2_32", fn("socket", "2", "1", "6"), fn("connect", "$1", "addr", "16"), fn("send", "$1", "$0", "64", "0"))...),
		}.all()},
	{name: "registry", rule: "changes-registry",
		calls: systems{windows: from("ADVAPI32", fn("RegSetValueExW", "0x80000001", `L"Layout"`, "0", "1", "buf", "64"))}.all()},
	{name: "aes", want: names(crypto), rule: "uses-aes", table: "aes"},
	{name: "sha-256", want: names(crypto), rule: "hashes-sha2", table: "sha256"},
	{name: "blowfish", want: names(crypto), rule: "uses-blowfish", table: "blowfish"},
	{name: "chacha", want: names(crypto), rule: "uses-chacha", table: "chacha"},
	{name: "md5", want: names(crypto), rule: "hashes-weakly", table: "md5"},
}

// A system is one whose functions programs call.
type system string

const (
	linux   system = "linux"
	darwin  system = "darwin"
	windows system = "windows"
	wasi    system = "wasi"
	unix    system = "unix" // linux and darwin, unless they say otherwise
)

// systems are calls by system.
type systems map[system][]call

// all spells out what all systems like Unix share.
func (s systems) all() map[string][]call {
	out := map[string][]call{}
	for os, calls := range s {
		if os != unix {
			out[string(os)] = calls
		}
	}
	for _, os := range []string{"linux", "darwin"} {
		if calls, ok := s[unix]; ok && out[os] == nil {
			out[os] = calls
		}
	}
	return out
}

// ruleOn returns the rule that reports b on a system.
func (b *behavior) ruleOn(os string) string {
	if b.name == "persist" { // each system has its own way
		if os == "linux" {
			return "schedules-tasks"
		}
		return "starts-with-session"
	}
	return b.rule
}
