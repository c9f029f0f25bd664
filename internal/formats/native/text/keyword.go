package text

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// A Kind is what a telling text is.
type Kind string

// The kinds.
const (
	Key         Kind = "key"         // the head of a private or public key
	Wallet      Kind = "wallet"      // an address of a crypto currency
	Onion       Kind = "onion"       // a Tor service
	Command     Kind = "command"     // for a shell
	Registry    Kind = "registry"    // of Windows
	Path        Kind = "path"        // of a file that matters
	URL         Kind = "url"         //
	IP          Kind = "ip"          //
	Host        Kind = "host"        // a name, without scheme
	Email       Kind = "email"       //
	UserAgent   Kind = "user-agent"  //
	Environment Kind = "environment" // the name of a variable
	Analysis    Kind = "analysis"    // a tool that a program looks for to hide from
	BuildPath   Kind = "build-path"  // where it was built
	Message     Kind = "message"     // words for a person
	Word        Kind = "word"        // a name or identifier
)

// A take says how much of the text around a keyword belongs to it.
type take uint8

const (
	word    take = iota // the keyword, standing alone
	onward              // from the keyword to the end of the path
	path                // the path around it
	name                // the name around it
	line                // the text around it
	command             // the same if arguments follow
	special             // as a function of its own decides
)

// A keyword leads to a telling text.
type keyword struct {
	text  string
	kind  Kind
	score int // 0 to 100
	take  take
	exact bool // in this case only
	check func(s *search, b []byte, start, end int)
}

// words turns space-free lists into keywords of one sort.
func words(kind Kind, take take, exact bool, scores map[int][]string) (out []keyword) {
	for score, list := range scores {
		for _, w := range list {
			out = append(out, keyword{text: w, kind: kind, score: score, take: take, exact: exact})
		}
	}
	return out
}

// keywords lists all keywords. Scores are judgement: what says more of a
// program's purpose is higher, what nearly every program has is low.
func keywords() []keyword {
	var out []keyword
	out = append(out, words(Key, line, true, map[int][]string{
		95: {"-----BEGIN "},
		90: {"PuTTY-User-Key-File-", "AGE-SECRET-KEY-1"},
		85: {"ssh-rsa AAAA", "ssh-ed25519 AAAA", "ecdsa-sha2-nistp256 AAAA"},
	})...)

	out = append(out, words(Path, onward, true, map[int][]string{
		95: {"/etc/shadow", "/etc/ld.so.preload", "/dev/tcp/", "/var/run/docker.sock", "/run/docker.sock"},
		90: {"/etc/sudoers", "/etc/cron", "/var/spool/cron", "/dev/mem", "/dev/kmem", "/var/run/secrets/kubernetes.io"},
		85: {"/etc/passwd", "/var/log/wtmp", "/var/log/lastlog", "/var/run/utmp", "/proc/self/mem", "/proc/self/environ", "/bin/busybox"},
		80: {"/etc/systemd/system", "/etc/rc.local", "/etc/rc.d/", "/etc/pam.d", "/etc/ssh/", "/proc/net/tcp", "/proc/kcore"},
		75: {"/etc/init.d/", "/lib/systemd/system", "/proc/self/maps", "/proc/kallsyms", "/proc/modules", "/proc/1/"},
		70: {"/proc/%", "/proc/self/exe", "/proc/sys/kernel/", "/var/tmp/", "/var/log/"},
		65: {"/bin/sh", "/bin/bash", "/bin/zsh", "/usr/bin/env", "/proc/net/", "/proc/self/status", "/dev/shm", "/etc/machine-id", "/etc/profile", "/dev/input/", "/dev/uinput"},
		60: {"/tmp/", "/proc/self/cmdline", "/sys/class/net", "/sys/class/dmi", "/sys/devices/virtual/dmi", "/etc/hosts", "/dev/ptmx"},
		50: {"/usr/bin/", "/usr/sbin/", "/sbin/", "/etc/resolv.conf", "/etc/os-release", "/etc/nsswitch.conf"},
		45: {"/proc/", "/opt/", "/var/lib/", "/Library/Application Support"},
		40: {"/etc/", "/usr/local/", "/var/", "/dev/", "/proc/sys/", "/proc/self/cgroup", "/System/Library/"},
		30: {"/sys/", "/dev/null", "/dev/urandom", "/dev/random", "/dev/tty", "/proc/cpuinfo", "/proc/meminfo", "/etc/ssl/", "/usr/lib", "/usr/share/", "/proc/self/fd", "/proc/stat", "/sys/devices/system/cpu", "/sys/fs/cgroup", "/etc/localtime"},
	})...)
	out = append(out, words(Path, path, false, map[int][]string{
		95: {".aws/credentials", `.aws\credentials`, "wallet.dat", "ntds.dit", "nkbihfbeogaeaoehlefnkodbefgpgknn"},
		92: {
			".git-credentials", ".kube/config", "Login Data", "logins.json", "authorized_keys", ".bash_history", ".zsh_history", "docker.sock",
			"Chrome/User Data", `Chrome\User Data`, "/google-chrome", "lsass", "PhysicalDrive0", "login.keychain",
		},
		90: {
			"id_rsa", "id_ed25519", "id_ecdsa", ".docker/config.json", ".netrc", "cookies.sqlite", "Local Storage/leveldb", `Local Storage\leveldb`,
			"Library/LaunchAgents", "Library/LaunchDaemons", "Library/Keychains", `drivers\etc\hosts`, `Start Menu\Programs\Startup`, "key4.db",
		},
		88: {".npmrc", ".pypirc", ".config/gcloud", "known_hosts", `Microsoft\Protect`, `Microsoft\Credentials`},
		85: {"/.ssh", `\.ssh`, ".gnupg", ".aws/config", "BraveSoftware", "Telegram Desktop", "Electrum", "Exodus", "MetaMask", `\Network\Cookies`, ".azure/", ".config/gh/hosts.yml", ".vault-token"},
		80: {"discordcanary", "Opera Software", `Firefox\Profiles`, "Firefox/Profiles", ".mozilla/firefox", ".bashrc", ".zshrc", ".bash_profile", ".config/autostart", "~/."},
		75: {`\AppData\`, `%APPDATA%`, `%LOCALAPPDATA%`, `%TEMP%`, `%USERPROFILE%`, `%PROGRAMDATA%`, `%SystemRoot%`, `\\.\pipe\`, `\\.\`},
		60: {`\System32\`, `\SysWOW64\`, `C:\Windows`, `C:\ProgramData`, `C:\Users\Public`},
	})...)

	out = append(out, words(Command, command, false, map[int][]string{
		88: {"bash -i", "sh -i", "nc -e", "rm -rf", "rm -fr", "base64 -d", "chmod 777", "chattr +i", "history -c", "net user", "powershell", "pwsh", "mshta", "dd if=", "python -c", "python3 -c", "perl -e", "ruby -e", "node -e", "php -r"},
		80: {"chmod +x", "chmod u+x", "chmod 755", "chmod 0755", "cmd.exe", "cmd /c", "/bin/sh -c", "/bin/bash -c", "sh -c", "osascript", "reg add", "reg delete", "reg query", "schtasks", "crontab", "launchctl", "mkfifo", "iptables", "netsh", "wmic", "bitsadmin", "certutil", "rundll32", "regsvr32", "useradd", "usermod", "insmod", "socat"},
		70: {"curl", "wget", "sudo", "nohup", "systemctl", "taskkill", "tasklist", "pkill", "killall", "kill -9", "ps aux", "ps -ef", "uname -a", "xdg-open", "npm install", "npm publish", "pip install", "docker run", "docker exec", "kubectl", "ssh -", "scp -", "tar -c", "tar c", "git clone", "sysctl -", "ifconfig", "ip addr", "lsof -", "netstat -"},
	})...)
	out = append(out, words(Command, line, false, map[int][]string{
		97: {"stratum+tcp://", "stratum+ssl://", "xmrig"},
		95: {"-EncodedCommand", "vssadmin", "com.apple.quarantine", "find-generic-password", "dump-keychain", "bash -i >&", "IEX (New-Object", "IEX(New-Object"},
		92: {"DownloadString", "Invoke-Expression", "Invoke-WebRequest", "bcdedit", "wevtutil", "-ExecutionPolicy", "Set-MpPreference", "Add-MpPreference"},
		85: {"-WindowStyle Hidden", "FromBase64String", "csrutil", "spctl --", "System.Net.WebClient", "setenforce 0", "eval $(", "eval(atob("},
		75: {"require('child_process')", `require("child_process")`, "child_process", "__import__('os')", "os.system(", "subprocess.", "eval(Buffer", "new Function("},
	})...)

	out = append(out, words(Registry, path, false, map[int][]string{
		95: {`CurrentVersion\Run`, "Image File Execution Options", "DisableAntiSpyware", "DisableTaskMgr", "DisableRealtimeMonitoring", `Windows NT\CurrentVersion\Winlogon`},
		85: {"HKEY_", `HKLM\`, `HKCU\`, `CurrentVersion\Policies`, `CurrentControlSet\Services`},
		70: {`Software\Microsoft\`, `SYSTEM\CurrentControlSet`},
		50: {`Software\`},
	})...)

	out = append(out, words(Environment, word, true, map[int][]string{
		95: {"AWS_SECRET_ACCESS_KEY", "NPM_TOKEN", "NODE_AUTH_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"},
		92: {"DYLD_INSERT_LIBRARIES", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_CLIENT_SECRET", "GOOGLE_APPLICATION_CREDENTIALS", "VAULT_TOKEN"},
		88: {"LD_PRELOAD", "LD_AUDIT", "HISTFILE", "NODE_TLS_REJECT_UNAUTHORIZED", "KUBECONFIG", "DATABASE_URL", "PGPASSWORD", "MYSQL_PWD", "SSH_AUTH_SOCK", "SUDO_ASKPASS"},
		70: {"NODE_OPTIONS", "LD_LIBRARY_PATH", "PYTHONSTARTUP", "BASH_ENV", "SUDO_USER", "SUDO_COMMAND", "SSH_CLIENT", "SSH_CONNECTION", "XDG_CONFIG_HOME", "GIT_SSH_COMMAND", "JENKINS_URL", "GITHUB_ACTIONS", "GITHUB_WORKSPACE", "KUBERNETES_SERVICE_HOST"},
		60: {"USERPROFILE", "LOCALAPPDATA", "APPDATA", "COMPUTERNAME", "PYTHONPATH", "LOGNAME", "USERDOMAIN", "PROGRAMDATA", "HOSTNAME"},
		50: {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "CURL_CA_BUNDLE"},
		25: {"RUST_BACKTRACE", "RUST_LOG", "GODEBUG", "GOTRACEBACK", "GOMAXPROCS", "GOMEMLIMIT", "NO_COLOR", "TMPDIR", "COLORTERM"},
	})...)
	out = append(out, words(Environment, name, true, map[int][]string{
		62: {"_TOKEN", "_SECRET", "_PASSWORD", "_API_KEY", "_ACCESS_KEY", "_WEBHOOK", "_CREDENTIALS", "_PRIVATE_KEY"},
	})...)

	out = append(out, words(UserAgent, line, false, map[int][]string{
		85: {"Mozilla/5.0", "Mozilla/4.0"},
		75: {"User-Agent:"},
	})...)
	out = append(out, words(Analysis, word, false, map[int][]string{
		85: {"VBoxGuest", "VBoxService", "VBoxMouse", "vmtoolsd", "vmwaretray", "SbieDll", "x64dbg", "x32dbg", "ollydbg", "procmon", "procexp", "wireshark", "tcpdump", "frida", "frida-server", "ida64", "ghidra", "TracerPid", "qemu-ga"},
	})...)

	out = append(out, words(BuildPath, path, false, map[int][]string{
		40: {".pdb", `C:\Users\`, "/home/", "/Users/"},
		30: {`D:\a\`, "/builds/", "/build/", "/workspace/", "/root/", "/tmp/build", "/runner/work/", `\source\repos\`, `\src\`, "/src/", "/rustc/"},
	})...)

	for _, tld := range topLevel() {
		out = append(out, keyword{text: "." + tld, kind: Host, take: special, check: (*search).host})
	}
	for _, d := range "0123456789" {
		out = append(out, keyword{text: "." + string(d), kind: IP, take: special, check: (*search).ipv4})
	}
	for _, v := range verdicts() {
		out = append(out, keyword{text: v, take: special, check: (*search).sawVerdict})
	}
	return append(out,
		keyword{text: "://", kind: URL, take: special, check: (*search).url},
		keyword{text: "@", kind: Email, take: special, check: (*search).email},
		keyword{text: "::", kind: IP, take: special, check: (*search).ipv6},
		keyword{text: ".onion", kind: Onion, take: special, check: (*search).onion},
		keyword{text: "bc1q", kind: Wallet, take: special, check: (*search).bech32},
		keyword{text: "bc1p", kind: Wallet, take: special, check: (*search).bech32},
		keyword{text: "0x", kind: Wallet, take: special, check: (*search).ethereum},
	)
}

// dictionary is the automaton of all keywords, made when it is first asked for.
var dictionary = sync.OnceValues(func() ([]keyword, *automaton) {
	list := keywords()
	slices.SortFunc(list, func(a, b keyword) int { return cmp.Or(strings.Compare(a.text, b.text), int(a.take)-int(b.take)) })
	texts := make([]string, len(list))
	for i, k := range list {
		texts[i] = k.text
	}
	return list, build(texts)
})
