package text

import (
	"bytes"
	"strings"
)

// A search goes through the texts of a table and keeps what tells.
type search struct {
	table    *Table
	list     []keyword
	words    *automaton
	piles    map[Kind]*pile
	role     role
	glued    bool   // texts without marks between them: where one ends is not sure
	origin   uint64 // offset in the file of the text at hand
	step     int    // bytes of the file for each character
	ipEnd    int    // where the last candidate for an address ended
	covered  int    // characters of the text at hand that were kept
	verdict  bool   // the text at hand has a word of what went wrong or is secret
	previous []byte // the end of the text before
}

const (
	longest = 200 // characters of a telling text
	glue    = 200 // characters from which on a run is taken for several texts
)

// texts calls each for every text of the table: its characters, the offset of
// the first and the bytes from one to the next. Runs that hold several texts
// are taken apart where the program's own pointers tell how.
func (s *search) texts(each func(b []byte)) {
	t := s.table
	cuts := t.pieces()
	if t.Glued {
		all := each
		each = func(b []byte) { all(s.literal(b)) }
	}
	var wide []byte
	region := -1
	for _, p := range t.runs {
		r := p.run()
		for region < 0 || r.Offset >= t.regions[region].to {
			region++
		}
		s.role = t.regions[region].role
		data := t.image.Data[r.Offset:][:r.Size]
		s.origin, s.step, s.glued = r.Offset, 1, false
		switch {
		case r.Wide:
			s.step = 2
			wide = narrow(wide[:0], data)
			each(wide)
		case r.Size <= shortGlue || len(cuts) == 0:
			s.glued = r.Size > glue
			each(data)
		default:
			s.pieces(r, cuts.within(r.Offset, r.Offset+uint64(r.Size)), each)
		}
	}
}

// literal takes the length off that the format strings of today's Rust have in
// front of each literal part (core::fmt::Arguments), if it is a printable byte.
func (s *search) literal(b []byte) []byte {
	if s.step != 1 || len(b) <= shortest {
		return b
	}
	data, n := s.table.image.Data, int(b[0])
	end := s.origin + uint64(len(b))
	if n == len(b)-1 || n == len(b) && end < uint64(len(data)) && data[end] == '\n' {
		s.origin++
		return b[1:]
	}
	return b
}

// pieces calls each for the pieces of a run, and for what lies between them. A
// run between two zero bytes may be one text of the C code in the program, to
// which a lone pointer with a number behind it says nothing.
func (s *search) pieces(r Run, cuts pieces, each func(b []byte)) {
	data, end := s.table.image.Data, r.Offset+uint64(r.Size)
	closed := end < uint64(len(data)) && data[end] == 0 && r.Offset > 0 && data[r.Offset-1] == 0
	if len(cuts) == 0 || closed && len(cuts) == 1 {
		s.glued = !closed || r.Size > glue
		each(data[r.Offset:end])
		return
	}
	rest := func(from, to uint64) {
		if to-from >= shortest {
			s.origin, s.glued = from, true
			each(data[from:to])
		}
	}
	from := r.Offset
	for _, c := range cuts {
		start := uint64(c.offset)
		if start < from {
			continue // a part of the piece before
		}
		rest(from, start)
		from = start + uint64(c.size)
		s.origin, s.glued = start, false
		each(data[start:from])
	}
	rest(from, end)
}

// look searches one text.
func (s *search) look(b []byte) {
	s.ipEnd, s.covered, s.verdict = 0, 0, false
	s.words.find(b, func(n, end int) {
		k := &s.list[n]
		start := end - len(k.text)
		if k.take == special {
			k.check(s, b, start, end)
			return
		}
		if k.exact && string(b[start:end]) != k.text {
			return
		}
		s.take(k, b, start, end)
	})
	if s.role == plain {
		s.base58(b)
		if !s.glued && s.covered*2 < len(b) {
			if kind, score := judge(b, s.verdict); score > 0 {
				s.keep(kind, score, b, 0, len(b))
			}
		}
	}
	s.previous = b[max(0, len(b)-64):]
}

func isNameByte(c byte) bool { return isAlnum(c) || c == '_' }

func isPathByte(c byte) bool {
	return isAlnum(c) || strings.IndexByte(`_./\-:~%$+@{}*`, c) >= 0 && c != 0
}

// take keeps a keyword with as much around it as belongs to it.
func (s *search) take(k *keyword, b []byte, start, end int) {
	before, next := at(b, start-1), at(b, end)
	score := k.score
	switch {
	case s.role == names && k.kind != Command && k.kind != Key:
		return // the names of symbols, or of the files they came from
	case s.role == code && len(b) < 12:
		return // part of a comparison, with instructions around it
	}
	switch k.take {
	case word:
		// Without marks between texts, a change of case is as much as there is.
		loose := s.glued && k.kind == Environment
		if isNameByte(before) && !(loose && !isUpper(before)) || isNameByte(next) && !(loose && !isUpper(next)) {
			return
		}
	case name:
		const most = 40 // characters of the name of a variable
		for start > 0 && end-start <= most && (isUpper(b[start-1]) || isDigit(b[start-1]) || b[start-1] == '_') {
			start--
		}
		for end < len(b) && end-start <= most && (isUpper(b[end]) || isDigit(b[end]) || b[end] == '_') {
			end++
		}
		if isNameByte(at(b, start-1)) || isNameByte(at(b, end)) || end-start < len(k.text)+2 {
			return
		}
		if errorName(b[start:end]) {
			return
		}
	case onward:
		if score < 80 && (isNameByte(before) || before == '.' || before == '-' || before == '/') {
			return
		}
		for end < len(b) && end-start < longest && isPathByte(b[end]) {
			end++
		}
		if source(b[start:end]) {
			s.keep(BuildPath, 20, b, start, end)
			return
		}
	case path:
		first := start
		for first > 0 && isPathByte(b[first-1]) && start-first < longest {
			first--
		}
		for end < len(b) && isPathByte(b[end]) && end-first < longest {
			end++
		}
		if k.kind == BuildPath {
			if !buildPath(b[first:end], k.text) {
				return
			}
			if dependency(b[first:end]) {
				score = min(score, 22)
			}
		}
		if isAlnum(k.text[0]) && isNameByte(before) && k.kind != BuildPath || isAlnum(k.text[len(k.text)-1]) && isNameByte(next) && k.kind == Path {
			return // part of a longer word
		}
		if k.kind == Path && source(b[first:end]) {
			return
		}
		if k.kind != BuildPath && len(b) <= 100 {
			first, end = 0, len(b)
		}
		start = first
	case command:
		if isNameByte(before) || strings.IndexByte(`-./\`, before) >= 0 && before != 0 && !isCommandPath(b[:start]) || !arguments(b[end:], start == 0) {
			return
		}
		start, end = s.around(b, start, end)
	case line:
		start, end = s.around(b, start, end)
		if k.kind == Key {
			score = keyScore(b[start:end], score)
		}
	}
	if s.glued && k.kind != Path && k.kind != Environment {
		score -= 5
	}
	s.keep(k.kind, score, b, start, end)
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// keyScore lowers the score of a PEM head that is not of a key: every TLS
// library has those of certificates, and the words alone.
func keyScore(b []byte, score int) int {
	switch {
	case !bytes.Contains(b, []byte("-----BEGIN ")), bytes.Contains(b, []byte("PRIVATE KEY")):
		return score
	case bytes.Contains(b, []byte("KEY")):
		return score / 2
	}
	return score / 4
}

// around returns the whole text if it is short, or else the part of it that
// begins with the word at start.
func (s *search) around(b []byte, start, end int) (int, int) {
	if len(b) <= longest && !s.glued {
		return 0, len(b)
	}
	for start > 0 && b[start-1] > ' ' && end-start < longest/4 && !s.glued {
		start--
	}
	stop := min(len(b), start+longest*3/4)
	if i := bytes.IndexAny(b[end:stop], "\n\t"); i >= 0 {
		stop = end + i
	}
	return start, stop
}

// errorName reports whether a name in capitals is that of an error.
func errorName(b []byte) bool {
	for _, p := range []string{"ERR", "STATUS_", "E_", "SEC_", "WSA", "_", "UNEXPECTED_", "INVALID_", "BAD_"} {
		if bytes.HasPrefix(b, []byte(p)) {
			return true
		}
	}
	for _, p := range []string{"_ERR", "UNEXPECTED", "_INVALID", "_BAD_", "_NO_", "_MISSING", "_TOO_", "_WRONG_", "HANDSHAKE", "_TRAFFIC_"} {
		if bytes.Contains(b, []byte(p)) {
			return true
		}
	}
	return false
}

// isCommandPath reports whether b ends like the folder of a program.
func isCommandPath(b []byte) bool {
	return bytes.HasSuffix(b, []byte("bin/")) || bytes.HasSuffix(b, []byte(`32\`))
}

// arguments reports whether b goes on as the arguments of a command do: "curl
// easy handle" is no command, "curl -s %s" is. Nothing at all may follow where
// nothing stands in front.
func arguments(b []byte, first bool) bool {
	if len(b) == 0 {
		return first
	}
	if !bytes.ContainsAny(b[:1], " \t\"'") && !isDigit(b[0]) {
		return bytes.HasPrefix(b, []byte(".exe"))
	}
	b = bytes.TrimLeft(b, " \t\"'")
	if len(b) == 0 {
		return first
	}
	if strings.IndexByte("-/$%~{<>|&`", b[0]) >= 0 {
		return true
	}
	return bytes.HasPrefix(b, []byte("http")) || bytes.HasPrefix(b, []byte("HK")) || bytes.HasPrefix(b, []byte("load ")) || bytes.HasPrefix(b, []byte("start "))
}

// source reports whether a path is that of source code.
func source(p []byte) bool {
	for _, part := range []string{"/registry/src/", "/rustc/", "/git/checkouts/", "/go/src/", "/pkg/mod/", "/src/", "/include/", "/node_modules/"} {
		if bytes.Contains(p, []byte(part)) {
			return true
		}
	}
	i := bytes.LastIndexByte(p, '.')
	if i < 0 {
		return false
	}
	switch string(p[i+1:]) {
	case "c", "cc", "cpp", "cxx", "h", "hh", "hpp", "hxx", "rs", "go", "s", "S", "m", "mm", "swift", "zig", "nim", "d", "pas", "f90", "inl", "ipp", "tcc":
		return true
	}
	return false
}

// dependency reports whether a source path is not of the program's own code.
func dependency(p []byte) bool {
	for _, part := range []string{"/registry/src/", `\registry\src\`, "/rust/deps/", "/rustc/", "/pkg/mod/", "/usr/local/go/", "/vendor/"} {
		if bytes.Contains(p, []byte(part)) {
			return true
		}
	}
	return false
}

// buildPath tells where something was built from other paths that hold key.
func buildPath(p []byte, key string) bool {
	switch key {
	case "/src/", `\src\`, "/build/", "/rustc/", "/tmp/build", "/root/", "/builds/", "/workspace/":
		return source(p) && len(p) >= 12 && (p[0] == '/' || p[0] == '.' || len(p) > 2 && p[1] == ':')
	case ".pdb":
		return bytes.ContainsAny(p, `/\`) || bytes.HasSuffix(p, []byte(".pdb")) && len(p) > 6
	}
	return len(p) >= len(key)+4
}
