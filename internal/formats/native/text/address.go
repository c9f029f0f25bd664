package text

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// sure are the top-level domains that hardly ever end anything but the name of
// a host.
var sure = strings.Fields(`com net org edu gov mil biz su
	ru cn de uk jp fr br nl eu au kr dk fi cz hu gr il ua kz hk nz mx tw vn by bg lv ee sk hr ch`)

// doubtful are those that also end file names and identifiers (main.rs,
// self.name, console.info, foo.so): a host needs more to be believed.
var doubtful = strings.Fields(`io co me tv cc ai sh to us in ws app dev info name top club online site store cloud host space link
	live pro vip work tech fun win run email page world network digital today systems download stream click zip mov
	gg gd ly la im is ms pw tk ml ga cf gq sx st re fm am ac id my sg th tr za il pk ph ve cl ar lol ninja rocks zone tools
	services media news group global company center support software ltd ink moe wiki blog shop art party date review trade
	xyz pl ro rs lt si pt be at se no es it ca ir icu`)

// sourceFiles are those of them that end the names of source files and fields.
var sourceFiles = strings.Fields(`rs py pl pm ps sh so cc mm md mk ml am in id do as is at me name info st la re`)

// allDomains are both, sorted.
var allDomains = topLevel()

func topLevel() []string {
	all := slices.Concat(sure, doubtful)
	slices.Sort(all)
	return slices.Compact(all)
}

// services are hosts, by their last labels, that say more or less than others:
// where data goes and loaders fetch from, and what is in every program's
// documentation and formats.
var services = map[string]int{
	"api.telegram.org": 95, "discord.com": 85, "discordapp.com": 88, "pastebin.com": 94, "paste.ee": 92, "hastebin.com": 90, "ghostbin.com": 90, "rentry.co": 88,
	"transfer.sh": 94, "file.io": 88, "0x0.st": 90, "anonfiles.com": 92, "gofile.io": 90, "catbox.moe": 88, "mega.nz": 82, "temp.sh": 88, "bashupload.com": 92,
	"ngrok.io": 94, "ngrok.app": 94, "ngrok-free.app": 94, "trycloudflare.com": 92, "serveo.net": 92, "localtunnel.me": 90, "loca.lt": 92,
	"webhook.site": 95, "pipedream.net": 94, "requestbin.com": 94, "burpcollaborator.net": 96, "oastify.com": 96, "interact.sh": 95, "oast.fun": 95, "oast.me": 95, "oast.pro": 95, "oast.live": 95, "dnslog.cn": 95, "ceye.io": 94,
	"ipify.org": 90, "ip-api.com": 90, "ipinfo.io": 88, "ifconfig.me": 90, "icanhazip.com": 90, "checkip.amazonaws.com": 88, "ident.me": 88, "myip.com": 86,
	"duckdns.org": 88, "no-ip.com": 88, "ddns.net": 88, "hopto.org": 90, "zapto.org": 90, "dyndns.org": 85,
	"raw.githubusercontent.com": 86, "gist.githubusercontent.com": 88, "objects.githubusercontent.com": 80, "hooks.slack.com": 88, "t.me": 75, "bit.ly": 82, "tinyurl.com": 80, "is.gd": 80, "goo.gl": 70,
	"metadata.google.internal": 94, "workers.dev": 72, "pages.dev": 65, "herokuapp.com": 70, "s3.amazonaws.com": 65, "blob.core.windows.net": 65, "sentry.io": 60, "segment.io": 62, "mixpanel.com": 62, "google-analytics.com": 60, "amplitude.com": 62, "datadoghq.com": 55,

	"github.com": 32, "gitlab.com": 32, "bitbucket.org": 32, "sourceforge.net": 25, "stackoverflow.com": 14, "wikipedia.org": 14, "google.com": 35, "microsoft.com": 30, "apple.com": 25, "mozilla.org": 20, "nodejs.org": 20,
	"w3.org": 10, "xmlsoap.org": 10, "ietf.org": 10, "rfc-editor.org": 10, "apache.org": 12, "gnu.org": 12, "opensource.org": 10, "creativecommons.org": 10, "unicode.org": 10, "iso.org": 10, "khronos.org": 12, "purl.org": 10, "adobe.com": 12, "oasis-open.org": 10, "json-schema.org": 12, "schemastore.org": 12, "whatwg.org": 10, "ecma-international.org": 10, "tc39.es": 10, "example.com": 12, "example.org": 12, "example.net": 12,
	"llvm.org": 14, "golang.org": 14, "go.dev": 14, "rust-lang.org": 14, "docs.rs": 14, "python.org": 18, "openssl.org": 16, "sqlite.org": 14, "zlib.net": 12, "kernel.org": 16, "freedesktop.org": 14, "gnome.org": 14, "debian.org": 16, "ubuntu.com": 18, "openoffice.org": 12, "inkscape.org": 10, "sodipodi.sourceforge.net": 8,
	"digicert.com": 20, "verisign.com": 20, "symantec.com": 20, "symcb.com": 20, "symcd.com": 20, "globalsign.com": 20, "entrust.net": 20, "sectigo.com": 20, "comodoca.com": 20, "usertrust.com": 20, "letsencrypt.org": 20, "godaddy.com": 22, "thawte.com": 20, "geotrust.com": 20,
}

// labels at the start of a host that make a doubtful one likely.
var hostLabels = strings.Fields(`www www2 api apis app apps mail smtp imap pop ftp sftp static dl download downloads update updates git raw gist
	docs auth login sso telemetry analytics log logs events data s3 ns1 ns2 registry beacon stats c2 cnc dash dashboard pool xmr eth mirror
	m wss ws gateway hooks webhook hook ingest collect collector track tracking metrics report reports upload uploads files file img images
	assets media cdn edge proxy vpn dns relay node node1 rpc mainnet testnet server srv1 host1 panel admin bot gate cloud storage o1 o2 sentry`)

// A hostGrade is what may be said of a name as a host.
type hostGrade uint8

const (
	noHost hostGrade = iota
	maybeHost
	goodHost
)

// gradeHost judges a dotted name in lower case.
func gradeHost(b []byte) hostGrade {
	if len(b) < 4 || len(b) > 253 {
		return noHost
	}
	labels := bytes.Split(b, []byte{'.'})
	if len(labels) < 2 || len(labels) > 10 {
		return noHost
	}
	for _, l := range labels {
		if !validLabel(l) {
			return noHost
		}
	}
	tld := string(labels[len(labels)-1])
	domain := string(labels[len(labels)-2])
	switch string(labels[0]) {
	case "com", "org", "net", "edu", "gov", "java", "javax", "android", "system", "io", "sun":
		return noHost // a package in reversed notation
	}
	if !strings.ContainsFunc(domain, func(r rune) bool { return r < '0' || r > '9' }) && len(labels) == 2 {
		if tld != "com" && tld != "cn" && tld != "net" {
			return noHost // 12.in
		}
	}
	if _, ok := slices.BinarySearch(allDomains, tld); !ok {
		return noHost
	}
	if slices.Contains(sure, tld) {
		if len(tld) == 2 && len(labels) == 2 && len(domain) < 3 {
			return maybeHost // v.de
		}
		return goodHost
	}
	if _, known := serviceScore(b); known {
		return goodHost
	}
	if len(labels) >= 3 && slices.Contains(hostLabels, string(labels[0])) && !slices.Contains(sourceFiles, tld) {
		return goodHost
	}
	return maybeHost
}

// distinct reports whether a name that is a whole text looks more like a host
// than like a field or file: it has a hyphen or digit in its domain, or three
// parts.
func distinct(name []byte) bool {
	labels := bytes.Split(name, []byte{'.'})
	n := len(labels)
	if slices.Contains(sourceFiles, string(labels[n-1])) {
		return false
	}
	return n > 2 || bytes.ContainsAny(labels[n-2], "-0123456789")
}

func validLabel(l []byte) bool {
	if len(l) == 0 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for _, c := range l {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// serviceScore returns the score of the longest known end of a host.
func serviceScore(host []byte) (int, bool) {
	for {
		if score, ok := services[string(host)]; ok {
			return score, true
		}
		i := bytes.IndexByte(host, '.')
		if i < 0 {
			return 0, false
		}
		host = host[i+1:]
	}
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

func isHostByte(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' || c == '-' || c == '.' }

// at returns a byte of b, or 0 outside of it.
func at(b []byte, i int) byte {
	if i < 0 || i >= len(b) {
		return 0
	}
	return b[i]
}

// host looks at a name whose top-level domain was found.
func (s *search) host(b []byte, start, end int) {
	next := at(b, end)
	if isAlnum(next) || next == '-' || next == '_' || next == '(' || next == '[' || next == '@' || next == '.' && isAlnum(at(b, end+1)) || next == ':' && at(b, end+1) == ':' {
		return
	}
	from := start
	for from > 0 && isHostByte(b[from-1]) && start-from < 253 {
		from--
	}
	switch before := at(b, from-1); {
	case isAlnum(before), strings.IndexByte(`_@/\$%#&=`, before) >= 0 && before != 0:
		if before != '=' {
			return
		}
	}
	name := bytes.TrimLeft(b[from:end], ".-")
	if len(name) < end-from || s.role == names {
		return
	}
	grade := gradeHost(name)
	score, known := serviceScore(name)
	if !known {
		score = 58
	}
	port := next == ':' && isDigit(at(b, end+1))
	alone := from == 0 && end == len(b)
	switch {
	case grade == noHost:
		return
	case grade == maybeHost && !port:
		if !alone || !distinct(name) {
			return
		}
		score -= 13
	case next == '/': // most often a package path
		score -= 25
	case port:
		score += 15
	case !alone:
		score -= 10
	}
	if s.glued && !known {
		score -= 15
	}
	if port {
		for end++; isDigit(at(b, end)); end++ {
		}
	}
	s.keep(Host, score, b, end-len(b[from:end]), end)
}

// schemes that may stand before ://.
var schemes = []string{
	"https", "http", "ftps", "sftp", "tftp", "ftp", "wss", "ws", "ssh", "tcp", "udp", "tls", "smb", "ldaps", "ldap", "mongodb+srv", "mongodb", "rediss", "redis", "mysql",
	"postgresql", "postgres", "amqps", "amqp", "git+https", "git+ssh", "git", "svn", "telnet", "ircs", "irc", "socks5h", "socks5", "socks4a", "socks4", "mqtts", "mqtt", "nats", "rtsp", "rtmp", "dns", "doh", "quic", "grpc", "s3", "gs", "magnet",
	"stratum+tcp", "stratum+ssl", "unix", "npipe", "file",
}

const maxURL = 2048 // characters that are looked at; fewer are shown

func isURLByte(c byte) bool {
	return isAlnum(c) || strings.IndexByte("-._~:/?#[]@!$&'()*+,;=%{}", c) >= 0 && c != 0
}

// url looks at what stands around "://".
func (s *search) url(b []byte, start, end int) {
	head := b[max(0, start-16):start]
	scheme := ""
	for _, name := range schemes {
		if len(name) > len(scheme) && len(head) >= len(name) && strings.EqualFold(string(head[len(head)-len(name):]), name) {
			scheme = name
		}
	}
	if scheme == "" {
		return
	}
	from := start - len(scheme)
	stop := end
	for stop < len(b) && stop-end < maxURL && isURLByte(b[stop]) {
		if bytes.HasPrefix(b[stop:], []byte("://")) { // another one begins, without anything between
			for _, name := range schemes {
				if i := stop - len(name); i > end && string(b[i:stop]) == name {
					stop = i
					break
				}
			}
			break
		}
		stop++
	}
	for stop > end && strings.IndexByte(".,;:!?'*([{", b[stop-1]) >= 0 {
		stop--
	}
	for stop > end && b[stop-1] == ')' && bytes.Count(b[end:stop], []byte("(")) < bytes.Count(b[end:stop], []byte(")")) {
		stop--
	}
	authority := b[end:stop]
	if i := bytes.IndexAny(authority, "/?#"); i >= 0 {
		authority = authority[:i]
	}
	rest := b[end+len(authority) : stop]
	score := s.authority(authority, scheme)
	if score < 0 {
		return
	}
	if score >= 30 {
		score = min(score+pathBonus(rest, scheme), 100)
	}
	if scheme == "file" {
		score = min(score, 30)
	}
	if lower := bytes.ToLower(b[from:stop]); bytes.Contains(lower, []byte("licen")) || bytes.Contains(lower, []byte("copying")) {
		score = min(score, 20)
	}
	stop = from + len(trimDER(b[from:stop]))
	s.keep(URL, score, b, from, stop)
}

// trimDER takes off the tag of the next element that a certificate has behind
// the address of a list or another certificate.
func trimDER(b []byte) []byte {
	for _, ext := range []string{".crl0", ".crt0", ".cer0", ".p7c0", ".com0", ".net0", ".org0"} {
		if bytes.HasSuffix(b, []byte(ext)) {
			return b[:len(b)-1]
		}
	}
	return b
}

// authority scores the part of a URL that names the host; -1 if it names none.
func (s *search) authority(b []byte, scheme string) int {
	user, host, found := bytes.Cut(b, []byte{'@'})
	bonus := 0
	if !found {
		host = user
	} else if len(user) > 0 {
		bonus = 10 // credentials
	}
	host = bytes.ToLower(host)
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && i+1 < len(host) && isDigit(host[i+1]) {
		if port := string(host[i+1:]); port != "80" && port != "443" {
			bonus += 8
		}
		host = host[:i]
	}
	if addr, err := netip.ParseAddr(strings.Trim(string(host), "[]")); err == nil {
		if score := ipScore(addr); score > 0 {
			return min(score+10+bonus, 100)
		}
		return 20
	}
	switch {
	case len(host) == 0:
		if scheme == "file" || scheme == "unix" || scheme == "npipe" {
			return 25
		}
		return -1
	case bytes.ContainsAny(host, "%{$<"): // filled in later
		return 45 + bonus
	case string(host) == "localhost":
		return 25 + bonus
	}
	if score, known := serviceScore(host); known {
		return min(score+bonus, 100)
	}
	if bytes.HasSuffix(host, []byte(".onion")) {
		return 98
	}
	if gradeHost(host) != noHost {
		first, _, _ := bytes.Cut(host, []byte{'.'})
		switch string(first) {
		case "schemas", "ns", "purl", "crl", "crl2", "crl3", "crl4", "ocsp", "ocsp2", "cacerts", "docs", "doc", "developer", "bugs", "issues", "help", "support":
			return 18
		}
		return 64 + bonus
	}
	for _, c := range host {
		if c != '.' && c != '-' && c != '_' && !isAlnum(c) {
			return -1
		}
	}
	if len(host) < 3 || !isAlnum(host[0]) {
		return -1
	}
	return 30 + bonus // a name in somebody's own network, or an unknown domain
}

// pathBonus is for what a URL fetches or sends.
func pathBonus(rest []byte, scheme string) int {
	bonus := 0
	if scheme == "http" || scheme == "ftp" || scheme == "ws" || scheme == "tcp" {
		bonus += 4 // nothing protects it
	}
	file, _, _ := bytes.Cut(rest, []byte{'?'})
	for _, ext := range []string{".sh", ".exe", ".ps1", ".bin", ".dll", ".elf", ".bat", ".vbs", ".hta", ".msi", ".jar", ".apk", ".scr"} {
		if bytes.HasSuffix(bytes.ToLower(file), []byte(ext)) {
			return bonus + 15
		}
	}
	for _, part := range []string{"/api/webhooks", "/releases/download/", "/gate", "/upload", "/exfil", "/collect", "/beacon", "/payload", "/bot%", "/sendMessage"} {
		if bytes.Contains(rest, []byte(part)) {
			return bonus + 20
		}
	}
	return bonus
}

// ipScore judges an address; 0 if it is not worth a line.
func ipScore(a netip.Addr) int {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		switch {
		case b == [4]byte{169, 254, 169, 254}, b == [4]byte{100, 100, 100, 200}:
			return 95 // where clouds keep the credentials of a machine
		case b[0] == 0, b[0] >= 240, b[3] == 255 && b[0] == 255:
			return 0
		case b[0] == 127:
			return 25
		case b[0] >= 224:
			return 30
		case a.IsPrivate(), b[0] == 169 && b[1] == 254:
			return 55
		case b[0] == 192 && b[1] == 0 && b[2] == 2, b[0] == 198 && b[1] == 51 && b[2] == 100, b[0] == 203 && b[1] == 0 && b[2] == 113:
			return 30 // for documentation
		}
		return 80
	}
	switch {
	case a.IsUnspecified():
		return 0
	case a.IsLoopback():
		return 20
	case a.IsMulticast():
		return 25
	case a.IsPrivate(), a.IsLinkLocalUnicast():
		return 50
	case strings.HasPrefix(a.String(), "2001:db8:"):
		return 25
	}
	return 75
}

// ipv4 looks at what stands around a dot that a digit follows.
func (s *search) ipv4(b []byte, start, end int) {
	if !isDigit(at(b, start-1)) || start < s.ipEnd {
		return
	}
	from := start
	for from > 0 && isDigit(b[from-1]) && start-from < 4 {
		from--
	}
	stop := start
	for stop < len(b) && (isDigit(b[stop]) || b[stop] == '.') && stop-from < 64 {
		stop++
	}
	s.ipEnd = stop
	before, next := at(b, from-1), at(b, stop)
	if isAlnum(before) || strings.IndexByte(`._-+/\`, before) >= 0 && before != 0 || isAlnum(next) || next == '_' || next == '-' || next == '+' {
		if before != '/' || at(b, from-2) == '/' || next == '-' || isAlnum(next) { // of URLs; //host is seen there
			return
		}
	}
	digits := bytes.TrimRight(b[from:stop], ".")
	stop = from + len(digits)
	addr, err := netip.ParseAddr(string(digits))
	if err != nil {
		return
	}
	score := ipScore(addr)
	if score == 0 || s.role == names {
		return
	}
	port := next == ':' && isDigit(at(b, stop+1))
	block := next == '/' && isDigit(at(b, stop+1))
	if !port && !block && (looksLikeVersion(addr.As4()) || s.versionBefore(b, from)) {
		return
	}
	switch {
	case port:
		score = min(score+10, 100)
		for stop++; isDigit(at(b, stop)); stop++ {
		}
	case block:
		score -= 25
		for stop++; isDigit(at(b, stop)); stop++ {
		}
	}
	s.keep(IP, score, b, from, stop)
}

// looksLikeVersion is for four numbers without a port or prefix length: small
// ones count releases, and some starts are those of object identifiers.
func looksLikeVersion(b [4]byte) bool {
	if b[0] == b[1] && b[1] == b[2] && b[2] == b[3] && b[0] > 0 { // 1.1.1.1, 8.8.8.8: resolvers
		return b[0] != 1 && b[0] != 4 && b[0] != 8 && b[0] != 9
	}
	if b == [4]byte{8, 8, 4, 4} || b == [4]byte{1, 0, 0, 1} || b == [4]byte{169, 254, 169, 254} {
		return false
	}
	if b[0] == 127 || b[0] == 192 && b[1] == 168 {
		return false
	}
	if b[0] == 1 && (b[1] == 3 || b[1] == 2) || b[0] == 2 && (b[1] == 5 || b[1] == 16) {
		return true // 1.3.6.1…, 1.2.840…, 2.5.4…, 2.16.840…
	}
	if b[1] == 0 && b[2] == 0 && b[0] != 10 || b[2] == 0 && b[3] == 0 {
		return true
	}
	large := 0
	for _, v := range b {
		if v >= 30 {
			large++
		}
	}
	return large < 2 && (b[0] != 10 || large < 1 && b[3] == 0)
}

// versionBefore looks for a word in front that announces a version.
func (s *search) versionBefore(b []byte, from int) bool {
	head := bytes.ToLower(b[max(0, from-24):from])
	for _, w := range []string{"version", "release", "oid", "rev", "build", "ver.", "v.", "/"} {
		if bytes.Contains(head, []byte(w)) {
			return true
		}
	}
	return from == 0 && bytes.Contains(bytes.ToLower(s.previous), []byte("version"))
}

// ipv6 looks at what stands around "::".
func (s *search) ipv6(b []byte, start, end int) {
	if !isHex(at(b, start-1)) && !isHex(at(b, end)) {
		return
	}
	in := func(c byte) bool { return isHex(c) || c == ':' || c == '.' }
	from, stop := start, end
	for from > 0 && in(b[from-1]) && start-from < 45 {
		from--
	}
	for stop < len(b) && in(b[stop]) && stop-end < 45 {
		stop++
	}
	before, next := at(b, from-1), at(b, stop)
	if isAlnum(before) || before == '_' || before == '.' || isAlnum(next) || next == '_' {
		return
	}
	value := b[from:stop]
	addr, err := netip.ParseAddr(string(value))
	if err != nil || !addr.Is6() {
		return
	}
	// C++ and Rust write a::b as well: an address of some length has a digit
	// and more than two groups.
	groups := bytes.FieldsFunc(value, func(r rune) bool { return r == ':' })
	if len(groups) < 3 && !bytes.HasPrefix(value, []byte("fe80")) && !bytes.HasPrefix(value, []byte("ff0")) || !bytes.ContainsAny(value, "0123456789") {
		return
	}
	if score := ipScore(addr); score > 0 {
		s.keep(IP, score, b, from, stop)
	}
}

// email looks at what stands around "@".
func (s *search) email(b []byte, start, end int) {
	from, stop := start, end
	for from > 0 && start-from < 64 && (isAlnum(b[from-1]) || strings.IndexByte("._%+-", b[from-1]) >= 0) {
		from--
	}
	for stop < len(b) && stop-end < 253 && (isHostByte(b[stop]) || b[stop] >= 'A' && b[stop] <= 'Z') {
		stop++
	}
	for stop > end && (b[stop-1] == '.' || b[stop-1] == '-') {
		stop--
	}
	for from < start && !isAlnum(b[from]) {
		from++
	}
	if from == start || stop == end || at(b, from-1) == '/' || at(b, from-1) == ':' || at(b, stop) == '@' || at(b, stop) == '/' || at(b, stop) == ':' {
		return
	}
	host := bytes.ToLower(b[end:stop])
	i := bytes.LastIndexByte(host, '.')
	if i < 0 || gradeHost(host) == noHost {
		return
	}
	score := 55
	switch known, ok := serviceScore(host); {
	case ok:
		score = min(known, score)
	case start-from < 2:
		return
	}
	if slices.Contains(sourceFiles, string(host[i+1:])) {
		score -= 20
	}
	s.keep(Email, score, b, from, stop)
}
