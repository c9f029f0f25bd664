package enrich

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/finding"
	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// Model names what wrote the texts of this package.
const Model = "loupe-rules"

// behaviorWords are the behaviours as they stand in a sentence.
var behaviorWords = map[inventory.BehaviorName]string{
	inventory.Network:          "network access",
	inventory.Filesystem:       "file access",
	inventory.Process:          "process control",
	inventory.Crypto:           "cryptography",
	inventory.Obfuscation:      "obfuscation",
	inventory.DataExfiltration: "data exfiltration",
}

// explain writes a paragraph about one binary from what is known of it.
func explain(b *inventory.Binary, fs []finding.Finding) string {
	var out []string
	out = append(out, what(b)+".")
	if host := hostAPI(b); host != "" {
		out = append(out, host+".")
	}
	if s := signer(b.Signature); s != "" {
		out = append(out, s+".")
	}
	seen, unseen := behaviors(b.Behaviors)
	for _, name := range seen {
		out = append(out, b.Behaviors[name][0].Text)
	}
	switch {
	case b.Partial:
		out = append(out, "So much of it could not be read that nothing can be ruled out: see the notes.")
	case b.Silent:
		out = append(out, "It is linked statically and names nothing that it calls, so what else it does cannot be told from its tables.")
	case len(seen) == 0:
		out = append(out, "Nothing in its imports, strings and constants shows "+list(unseen, "or")+".")
	case len(unseen) > 0:
		out = append(out, "Nothing shows "+list(unseen, "or")+".")
	}
	if worst := worst(fs); worst != nil && worst.Severity >= finding.Medium {
		out = append(out, fmt.Sprintf("The most serious finding is %s: %s.", worst.Severity, lowerFirst(worst.Title)))
	}
	return strings.Join(out, " ")
}

// what says what a binary is, as the start of a paragraph.
func what(b *inventory.Binary) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s %s for %s", article(b.Format), b.Format, cmp.Or(b.Kind, "binary"), b.Arch)
	if b.OS != "" {
		fmt.Fprintf(&s, " on %s", b.OS)
	}
	if b.Language != "" {
		fmt.Fprintf(&s, ", written in %s", b.Language)
	}
	fmt.Fprintf(&s, ", with %s, %s", count(b.Functions.Count, "function", "functions"), count(len(b.Imports), "import", "imports"))
	if b.Stripped {
		s.WriteString(" and no symbol table")
	} else {
		s.WriteString(" and its symbol table")
	}
	return s.String()
}

func article(word string) string {
	if word != "" && strings.ContainsRune("AEIOUaeiou", rune(word[0])) {
		return "An"
	}
	return "A"
}

// signer says who signed a binary, and whether it is still what was signed.
func signer(s *inventory.Signature) string {
	switch {
	case s == nil:
		return ""
	case s.State == inventory.SignatureBroken:
		return "Its code signature is broken: the file is not what was signed"
	case s.AdHoc:
		return "It is signed by nobody in particular (ad hoc)"
	case s.Real():
		return fmt.Sprintf("It is signed by %s; digest and signature are verified, the chain is not", s.By())
	}
	return "It carries a code signature, which could not be verified"
}

// hostAPI names the program that loads a binary, by the interface it speaks.
func hostAPI(b *inventory.Binary) string {
	speaks := func(list []string, prefixes ...string) bool {
		return slices.ContainsFunc(list, func(n string) bool {
			return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(n, p) })
		})
	}
	switch {
	case speaks(b.Imports, "napi_", "node_api_"), speaks(b.Exports, "napi_register_module"):
		return "It is an add-on for Node.js and speaks Node-API"
	case slices.ContainsFunc(b.Imports, ofV8):
		return "It is an add-on for Node.js and speaks to V8 directly"
	case speaks(b.Exports, "PyInit_", "_PyInit_"):
		return "It is an extension module for Python"
	case speaks(b.Exports, "bare_register_module"), speaks(b.Imports, "js_create_"):
		return "It is an add-on for the Bare runtime"
	case speaks(b.Exports, "JNI_OnLoad", "Java_"):
		return "It is a library for Java (JNI)"
	}
	return ""
}

// ofV8 reports whether a name lies in C++'s namespace v8, as compilers for Unix
// and for Windows mangle it.
func ofV8(name string) bool {
	return strings.HasPrefix(name, "_ZN2v8") || strings.HasPrefix(name, "_ZNK2v8") ||
		strings.HasPrefix(name, "?") && strings.Contains(name, "@v8@@")
}

// summarize writes a paragraph about the whole target.
func summarize(rel *inventory.Release, binaries []*inventory.Binary, fs []finding.Finding, notes []finding.Note, risk finding.Risk) string {
	var out []string
	subject := "This target"
	if rel != nil {
		subject = strings.TrimSpace(rel.Name + " " + rel.Version)
	}
	if len(binaries) == 0 && notSearched(notes) {
		out = append(out, subject+" was not searched for native binaries.")
	} else {
		out = append(out, holds(subject, binaries))
	}
	if len(binaries) > 0 {
		out = append(out, acts(binaries))
	}
	if s := installs(fs); s != "" {
		out = append(out, s)
	}
	if w := worst(fs); w != nil && w.Severity >= finding.Medium {
		out = append(out, fmt.Sprintf("The most serious finding is %s: %s.", w.Severity, lowerFirst(w.Title)))
	}
	if rel != nil && rel.Deprecated != "" {
		out = append(out, "Its publisher has deprecated it.")
	}
	if rel != nil && rel.Yanked != "" {
		out = append(out, "Its publisher has withdrawn it.")
	}
	if n := finding.CountUnread(notes); n > 0 {
		out = append(out, count(n, "part was", "parts were")+" not looked at to the end: see the notes.")
	}
	out = append(out, fmt.Sprintf("The risk is %s (%d of 100).", risk.Level(), risk.Score))
	return strings.Join(out, " ")
}

// notSearched reports whether nobody looked for binaries.
func notSearched(notes []finding.Note) bool {
	return slices.ContainsFunc(notes, func(n finding.Note) bool { return n.Scanner == "native" && n.Path == "" })
}

// maxArchs is how many instruction sets a summary names: all that have a name,
// while a hostile package may claim any number.
const maxArchs = 20

// holds says which binaries there are.
func holds(subject string, binaries []*inventory.Binary) string {
	if len(binaries) == 0 {
		return subject + " holds no native binaries."
	}
	formats, archs := map[string]int{}, map[string]bool{}
	var size int64
	for _, b := range binaries {
		formats[b.Format]++
		archs[b.Arch] = true
		size += b.Size
	}
	var kinds []string
	for _, f := range slices.Sorted(maps.Keys(formats)) {
		kinds = append(kinds, fmt.Sprintf("%d %s", formats[f], f))
	}
	machines := slices.Sorted(maps.Keys(archs))
	if more := len(machines) - maxArchs; more > 0 {
		machines = append(machines[:maxArchs], count(more, "other", "others"))
	}
	return fmt.Sprintf("%s holds %s (%s; for %s) of %s in all.", subject,
		count(len(binaries), "native binary", "native binaries"), list(kinds, "and"), list(machines, "and"), Bytes(size))
}

// acts says what the binaries do, all together.
func acts(binaries []*inventory.Binary) string {
	all := inventory.Behaviors{}
	in := map[inventory.BehaviorName]int{}
	for _, b := range binaries {
		for name, details := range b.Behaviors {
			all[name] = append(all[name], details...)
			in[name]++
		}
	}
	seen, unseen := behaviors(all)
	they, silent := "They show", 0
	if len(binaries) == 1 {
		they = "It shows"
	}
	partial := 0
	for _, b := range binaries {
		switch {
		case b.Partial:
			partial++
		case b.Silent:
			silent++
		}
	}
	if silent+partial > 0 {
		unseen = nil // nothing can be ruled out
	}
	var parts []string
	for _, name := range seen {
		word := behaviorWords[name]
		if in[name] < len(binaries) {
			word += fmt.Sprintf(" (%d of %d)", in[name], len(binaries))
		}
		parts = append(parts, word)
	}
	var out string
	switch {
	case len(seen) == 0 && len(unseen) > 0:
		out = they + " no " + list(unseen, "or") + "."
	case len(seen) > 0 && len(unseen) > 0:
		out = they + " " + list(parts, "and") + ", and no " + list(unseen, "or") + "."
	case len(seen) > 0:
		out = they + " " + list(parts, "and") + "."
	}
	if partial > 0 {
		out = strings.TrimSpace(fmt.Sprintf("%s Of %s so much could not be read that nothing can be ruled out.", out, count(partial, "binary", "binaries")))
	}
	if silent > 0 {
		out = strings.TrimSpace(fmt.Sprintf("%s What %s is not known: linked statically, %s.", out,
			count(silent, "binary calls", "binaries call"), "it names nothing that it takes from the system"))
	}
	return out
}

// installs says what runs when the package is installed, or built where there
// is no build for a machine.
func installs(fs []finding.Finding) string {
	var scripts []string
	builds := false
	for _, f := range fs {
		switch {
		case strings.HasPrefix(f.Rule, "install/npm-") && len(f.Evidence) > 0:
			if script := fmt.Sprintf("%q", f.Evidence[0].Value); !slices.Contains(scripts, script) {
				scripts = append(scripts, script)
			}
		case strings.HasPrefix(f.Rule, "install/python-setup"):
			builds = true
		}
	}
	switch {
	case len(scripts) > 3:
		return fmt.Sprintf("Installing it runs %s and %d more scripts.", strings.Join(scripts[:3], ", "), len(scripts)-3)
	case len(scripts) > 0:
		return "Installing it runs " + list(scripts, "and") + "."
	case builds:
		return "Where no wheel fits, installing it runs its setup.py."
	}
	return ""
}

// behaviors splits the six into those that were detected and the words for
// those that were not.
func behaviors(b inventory.Behaviors) (seen []inventory.BehaviorName, unseen []string) {
	for _, name := range inventory.BehaviorNames {
		if len(b[name]) > 0 {
			seen = append(seen, name)
		} else {
			unseen = append(unseen, behaviorWords[name])
		}
	}
	return seen, unseen
}

func worst(fs []finding.Finding) *finding.Finding {
	var out *finding.Finding
	for i := range fs {
		if out == nil || fs[i].Severity > out.Severity {
			out = &fs[i]
		}
	}
	return out
}

// list joins words as a sentence does: "a, b and c".
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' { // an abbreviation
		return s
	}
	return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):]
}

// Bytes returns a size in the unit that people would choose: "191 kB".
func Bytes(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d bytes", n)
	case n < 1_000_000:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}
