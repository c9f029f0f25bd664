package enrich

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A trade is a kind of work that packages do, told by the words with which they
// describe themselves, and what binaries do for that work.
type trade struct {
	name  string // as in "a package about …"
	does  []inventory.BehaviorName
	words []string
}

// trades are the kinds of work that explain a behaviour. Words are those that
// occur in names, keywords and descriptions of packages on npm and PyPI with
// native code.
var trades = []trade{
	{"cryptography", []inventory.BehaviorName{inventory.Crypto}, []string{
		"bcrypt", "argon2", "scrypt", "pbkdf2", "crypto", "cryptography", "cryptographic", "hash", "hashes", "hashing", "hasher", "sha1", "sha2", "sha256", "sha512", "sha3", "md5",
		"blake2", "blake3", "xxhash", "murmurhash", "checksum", "crc32", "cipher", "aes", "chacha20", "encrypt", "encryption", "encrypted", "decrypt", "password", "passwords",
		"sodium", "libsodium", "nacl", "ed25519", "curve25519", "secp256k1", "ecdsa", "rsa", "tls", "ssl", "https", "openssl", "boringssl", "rustls", "signature", "signatures", "signing", "jwt", "jose",
		"certificate", "certificates", "x509", "keychain", "credential", "random", "uuid", "nonce", "git", "ssh", "blockchain", "bitcoin", "ethereum", "zip", "websocket",
	}},
	{"networking", []inventory.BehaviorName{inventory.Network, inventory.Crypto}, []string{
		"http", "http2", "https", "socket", "sockets", "tcp", "udp", "network", "networking", "client", "server", "web", "websocket", "websockets", "dns", "mdns", "grpc", "rpc", "quic", "webrtc", "mqtt", "amqp",
		"zeromq", "zmq", "nanomsg", "kafka", "librdkafka", "redis", "hiredis", "mysql", "mariadb", "postgres", "postgresql", "libpq", "oracle", "mongodb", "cassandra", "ldap", "kerberos", "smb",
		"ssh", "ssh2", "sftp", "ftp", "curl", "libcurl", "download", "downloader", "proxy", "vpn", "ping", "icmp", "raw-socket", "pcap", "packet", "bluetooth", "serialport", "browser", "chromium",
		"crawler", "scraper", "messaging", "messenger", "p2p", "torrent", "git", "database", "s3", "cloud", "api", "remote", "telemetry", "monitoring", "apm", "tracing", "video", "streaming", "ffmpeg",
		"bundler", "dev-server", "package-manager", "registry", "installer", "updater", "language-server", "lsp",
	}},
	{"files", []inventory.BehaviorName{inventory.Filesystem}, []string{
		"file", "files", "filesystem", "fs", "watch", "watcher", "watching", "fsevents", "inotify", "glob", "directory", "folder", "path", "database", "db", "sqlite", "sqlite3", "leveldb", "rocksdb", "lmdb", "storage", "store", "key-value", "cache",
		"archive", "zip", "unzip", "tar", "disk", "drive", "mmap", "flock", "lock", "xattr", "trash", "image", "images", "video", "audio", "font", "fonts", "pdf", "bundler", "compiler", "linter", "formatter", "minifier", "build", "cli", "tool",
		"git", "search", "index", "log", "logger", "parquet", "arrow", "dataframe", "numpy", "hdf5", "editor", "transpiler", "css", "sass", "typescript", "javascript", "python", "package-manager",
	}},
	{"processes", []inventory.BehaviorName{inventory.Process}, []string{
		"process", "processes", "pty", "tty", "terminal", "shell", "console", "exec", "spawn", "fork", "subprocess", "signal", "signals", "daemon", "service", "supervisor", "debugger", "debug", "profiler", "profiling", "crash",
		"crashpad", "breakpad", "sandbox", "container", "docker", "emulator", "jit", "ffi", "ctypes", "libffi", "hook", "inject", "automation", "launcher", "runner", "task", "cli", "bundler", "package-manager", "editor", "electron", "desktop",
		"system", "os", "registry", "windows", "macos", "compiler", "build", "test", "monitor", "memory", "psutil", "sysinfo", "cpu", "usb", "keyboard", "mouse", "robot", "screen",
	}},
}

// computing are words of packages whose work is done inside the processor: they
// take bytes and return bytes. From them nobody expects a connection or a
// program that is started.
var computing = []string{
	"bcrypt", "argon2", "scrypt", "hash", "hashes", "hashing", "hasher", "sha1", "sha2", "sha256", "sha512", "sha3", "md5", "blake2", "blake3", "xxhash", "murmurhash", "checksum", "crc32",
	"compress", "compression", "decompress", "zlib", "gzip", "deflate", "brotli", "zstd", "zstandard", "snappy", "lz4", "lzma", "lzo",
	"parse", "parser", "tokenizer", "lexer", "json", "yaml", "toml", "xml", "csv", "msgpack", "protobuf", "cbor", "bson", "serialization", "regex", "regexp",
	"math", "matrix", "linear-algebra", "fft", "statistics", "bignum", "bigint", "simd", "levenshtein", "distance", "similarity", "fuzzy", "diff",
	"utf-8", "utf8", "unicode", "iconv", "encoding", "base64", "hex", "buffer", "bufferutil", "uuid",
}

// A profile is what can be expected of a package by its own words.
type profile struct {
	because map[inventory.BehaviorName]string // the word that explains it
	narrow  string                            // the word by which it only computes; empty if it may do other work
}

// profileOf reads what a package says of itself.
func profileOf(p inventory.Purpose) profile {
	words := wordsOf(p)
	out := profile{because: map[inventory.BehaviorName]string{}}
	for _, t := range trades {
		for _, w := range t.words {
			if !words[w] {
				continue
			}
			for _, b := range t.does {
				out.because[b] = cmp.Or(out.because[b], w)
			}
		}
	}
	i := slices.IndexFunc(computing, func(w string) bool { return words[w] })
	if i >= 0 && out.because[inventory.Network] == "" && out.because[inventory.Process] == "" {
		out.narrow = computing[i]
	}
	return out
}

// Bounds on what is read of what a package says: the first sentences and
// keywords say what it is.
const (
	maxWords    = 600 // bytes of a description
	maxKeywords = 200
	maxKeyword  = 100 // bytes, also of a name
)

// wordsOf returns the words of a name, keywords, description and build file, in
// small letters, and pairs as they stand with a hyphen.
func wordsOf(p inventory.Purpose) map[string]bool {
	texts := []string{p.Description[:min(len(p.Description), maxWords)]}
	for _, t := range slices.Concat([]string{p.Name}, p.Keywords[:min(len(p.Keywords), maxKeywords)], p.Links[:min(len(p.Links), maxKeywords)]) {
		texts = append(texts, t[:min(len(t), maxKeyword)])
	}
	out := map[string]bool{}
	for _, t := range texts {
		for _, w := range strings.FieldsFunc(strings.ToLower(t), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' }) {
			out[w] = true
			for _, part := range strings.Split(w, "-") {
				out[part] = true
			}
		}
	}
	return out
}

// Expect holds what binaries do against what their packages say that they are:
// what goes with it becomes info, and what nobody expects of it weighs more. It
// returns the findings with their severities changed, and leaves fs alone.
func Expect(purposes []inventory.Purpose, binaries []*inventory.Binary, fs []finding.Finding) []finding.Finding {
	out := slices.Clone(fs)
	behaviors := behaviorsOf(binaries)
	speakers := map[string][]speaker{} // by file
	for i := range out {
		f := &out[i]
		shown, ok := behaviors[place{f.Location.Path, f.Anchor, f.Rule}]
		if !ok {
			continue
		}
		list, known := speakers[f.Location.Path]
		if !known {
			list = of(purposes, f.Location.Path)
			speakers[f.Location.Path] = list
		}
		for _, p := range list {
			if adjust(f, shown, p) {
				break
			}
		}
	}
	finding.Arrange(out)
	return out
}

type place struct{ path, slice, rule string }

type shown struct {
	behavior inventory.BehaviorName
	tier     inventory.Tier
}

func behaviorsOf(binaries []*inventory.Binary) map[place]shown {
	out := map[place]shown{}
	for _, b := range binaries {
		for name, details := range b.Behaviors {
			for _, d := range details {
				out[place{b.Path, b.Slice, d.Rule}] = shown{name, d.Tier}
			}
		}
	}
	return out
}

// A speaker is a package that says something of what is in its folder.
type speaker struct {
	inventory.Purpose
	profile
}

// of returns those that speak for a file, the innermost package first: the one
// that asks for a platform package speaks for that as well.
func of(purposes []inventory.Purpose, file string) []speaker {
	var out []speaker
	for _, p := range purposes {
		if rest, inside := strings.CutPrefix(file, p.Folder); p.Folder == "" || inside && strings.HasPrefix(rest, "/") {
			out = append(out, speaker{p, profileOf(p)})
		}
	}
	slices.SortStableFunc(out, func(a, b speaker) int { return cmp.Compare(len(b.Folder), len(a.Folder)) })
	if len(out) < 2 {
		return out
	}
	inner := out[0].Purpose
	return slices.DeleteFunc(out, func(s speaker) bool { return s.Folder != inner.Folder && !related(inner.Name, s.Name) })
}

// related reports whether a package with the name inner is a part of the one
// with the name outer: the same, in the same scope, or with its name in it, as
// @esbuild/linux-x64 of esbuild.
func related(inner, outer string) bool {
	scope, _, scoped := strings.Cut(outer, "/")
	if inner == "" || inner == outer || scoped && strings.HasPrefix(inner, scope+"/") {
		return true
	}
	own := path.Base(outer)
	return outer != "" && strings.Contains(inner, own)
}

// adjust changes a finding's severity by what one package says of itself, and
// reports whether it says anything to the point.
func adjust(f *finding.Finding, s shown, p speaker) bool {
	if word := p.because[s.behavior]; word != "" {
		if f.Severity == finding.Low {
			f.Severity = finding.Info
			f.Description += fmt.Sprintf(" %s describes itself with %q, so this is expected.", nameOf(p.Purpose), word)
		}
		return true
	}
	unexpected := s.behavior == inventory.Network || s.behavior == inventory.Process
	if p.narrow == "" || !unexpected {
		return false
	}
	if s.tier != inventory.Capability && f.Severity >= finding.Low && f.Severity < finding.High {
		f.Severity++
		f.Description += fmt.Sprintf(" Nobody expects this of %s, which describes itself with %q and names no work that would need it.", nameOf(p.Purpose), p.narrow)
	}
	return true
}

func nameOf(p inventory.Purpose) string {
	return finding.Printable(cmp.Or(p.Name, path.Base(p.Folder), "the package"), 100)
}
