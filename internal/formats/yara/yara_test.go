package yara_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/loupe-sec/loupe/internal/formats/yara"
)

// on tries one condition, with strings before it, on some data.
func on(t *testing.T, body, data string) map[string][]string {
	t.Helper()
	return ours(t, compile(t, "rule r { "+body+" }"), []byte(data))
}

func TestStrings(t *testing.T) {
	for _, test := range []struct {
		name, value, data string
		want              []string
	}{
		{"text", `"ab"`, "ab.ab", []string{"0x0", "0x3"}},
		{"overlapping", `"aba"`, "ababa", []string{"0x0", "0x2"}},
		{"one byte", `"a"`, "ba.a", []string{"0x1", "0x3"}},
		{"escapes", `"a\x00\"\\\t\n\r"`, "xa\x00\"\\\t\n\r", []string{"0x1"}},
		{"nocase", `"Ab1[" nocase`, "aB1[ AB1{ ab1[", []string{"0x0", "0xa"}},
		{"wide", `"ab" wide`, "ab a\x00b\x00", []string{"0x3"}},
		{"wide and ascii", `"ab" wide ascii`, "ab a\x00b\x00", []string{"0x0", "0x3"}},
		{"fullword", `"ab" fullword`, "ab xab abx _ab_", []string{"0x0", "0xc"}},
		{"fullword and wide", `"ab" fullword wide`, "a\x00b\x00c\x00 a\x00b\x00 \x00", []string{"0x7"}},
		{"xor", `"abcd" xor`, "abcd !\"#$ \x9e\x9d\x9c\x9b", []string{"0x0", "0x5", "0xa"}},
		{"xor of a range", `"abcd" xor(0x40-0x41)`, "abcd !\"#$  #\"%", []string{"0x5", "0xa"}},
		{"base64", `"Loupe" base64`, "xTG91cGU= xMb3VwZQ== xxTG91cGU", []string{"0x1", "0xb", "0x17"}},
		{"base64wide", `"Loupe" base64wide`, "T\x00G\x009\x001\x00c\x00G\x00U\x00", []string{"0x0"}},
		{"base64 with an alphabet", `"Loupe" base64("!@#$%^&*(){}[].,|ABCDEFGHIJ\x09LMNOPQRSTUVWXYZabcdefghijklmnopqrstu")`, ",*a\\", nil},

		{"hex", `{ 61 62 63 }`, "abc", []string{"0x0"}},
		{"wildcards", `{ 6? ?2 ?? 64 }`, "abcd", []string{"0x0"}},
		{"negation", `{ 61 ~62 63 ~6? 65 }`, "abc1e axc1e axcde", []string{"0x6"}},
		{"jump", `{ 61 [1-2] 64 }`, "ad abd abcd abccd", []string{"0x3", "0x7"}},
		{"alternatives", `{ 61 ( 62 | 63 64 [0-1] 65 ) 66 }`, "abf acdef acdxef acf", []string{"0x0", "0x4", "0xa"}},
		{"wide jump", `{ 61 62 [300-] 63 64 }`, "ab" + strings.Repeat(".", 299) + "cd..cd" + "ab", []string{"0x0"}},
		{"wide jumps in a row", `{ 61 62 [-] 63 64 [2-300] 65 66 }`, "ab.cd..ef cd", []string{"0x0"}},
		{"comments in hex", "{ 61 /* b */ 62 // c\n 63 }", "abc", []string{"0x0"}},

		{"regex", `/a[b-d]+e/`, "abcde ae ade", []string{"0x0", "0x9"}},
		{"every start", `/a+b/`, "aaab", []string{"0x0", "0x1", "0x2"}},
		{"case", `/aB[c]/i`, "AbC", []string{"0x0"}},
		{"dot", `/a.b/`, "a\nb axb", []string{"0x4"}},
		{"dot and line ends", `/a.b/s`, "a\nb axb", []string{"0x0", "0x4"}},
		{"bytes above 127", `/\xff[\x80-\x90]\xc3/`, "\xff\x85\xc3 \xff\x95\xc3", []string{"0x0"}},
		{"utf-8 is bytes", `/é./`, "é1", []string{"0x0"}},
		{"no text encoding", `/a..b/`, "aéb a\xff\xfeb", []string{"0x0", "0x5"}},
		{"ends", `/^ab|cd$/`, "ab ab cd cd", []string{"0x0", "0x9"}},
		{"edges of words", `/\bab\B./`, "abc xab ab", []string{"0x0"}},
		{"edges of wide words", `/\bab\b/ wide`, ".\x00a\x00b\x00.\x00xa\x00b\x00c\x00", []string{"0x2"}},
		{"escapes in a regex", `/\d\w\s\D\W\S\/\x41\n/`, "1_ x-y/A\n", []string{"0x0"}},
		{"a class with its own end", `/[]a]{2}b[^]]/`, "]ab-", []string{"0x0"}},
		{"braces that count nothing", `/ab{x{2}/`, "ab{xx", []string{"0x0"}},
		{"an empty alternative", `/ab(c|)d/`, "abd abcd", []string{"0x0", "0x4"}},
		{"loops in loops", `/ab((c*)*d)*e/`, "abccdcde", []string{"0x0"}},
		{"wide regex", `/a[bc]+d/ wide`, "a\x00b\x00c\x00d\x00", []string{"0x0"}},
		{"slashes", `/a\/b/`, "a/b", []string{"0x0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := on(t, "strings: $a = "+test.value+" condition: true", test.data)["r"]
			for i := range test.want {
				test.want[i] += ":$a"
			}
			slices.Sort(test.want)
			if !slices.Equal(got, test.want) {
				t.Errorf("%s in %q: %v; want %v", test.value, test.data, got, test.want)
			}
		})
	}
}

func TestLengths(t *testing.T) {
	for _, test := range []struct {
		value string
		want  int32
	}{
		{`/ab+/`, 4}, {`/ab+?/`, 2}, {`/ab|abb/`, 2}, {`{ 61 [1-3] 62 }`, 3}, {`"abbb"`, 4}, {`/a.{0,9}/`, 7},
	} {
		matches, _, err := compile(t, "rule r { strings: $a = "+test.value+" condition: $a }").Match(t.Context(), []byte("abbbxyz"))
		if err != nil || len(matches) != 1 || matches[0].Strings[0].At[0].Length != test.want {
			t.Errorf("%s: %+v, %v; want a length of %d", test.value, matches, err, test.want)
		}
	}
}

func TestConditions(t *testing.T) {
	const strs = `strings: $a1 = "ab" $a2 = "cd" $b = "zz" condition: `
	const data = "ab..cd..ab..\xfe\xff\xff\xff"
	for _, test := range []struct {
		condition string
		want      bool
	}{
		{"$a1 and $a2 and not $b", true},
		{"$b or $a1", true},
		{"#a1 == 2 and #b == 0", true},
		{"#a1 in (1..20) == 1", true},
		{"$a1 at 8 and not $a1 at 7", true},
		{"$a2 in (4..4) and not $a2 in (5..9)", true},
		{"@a1 == 0 and @a1[2] == 8 and @a2 == 4", true},
		{"@a1[3] == 0", false},
		{"not @a1[3] == 0", false}, // undefined
		{"defined @a1[2] and not defined @a1[3]", true},
		{"!a1 == 2", true},
		{"any of them and not all of them and 2 of them", true},
		{"3 of them", false},
		{"all of ($a*) and none of ($b)", true},
		{"any of ($b, $a2)", true},
		{"$a2 at 4 and $a2 at 2 + 2 and not $a1 at 1", true},
		{"66% of them and not 67% of them", true},
		{"any of them in (0..3) and not any of them in (1..3)", true},
		{"any of ($a*) at 4", true},
		{"for any of them : ( $ at 4 )", true},
		{"for all of ($a*) : ( # > 1 )", false},
		{"for 1 of them : ( @ == 4 and ! == 2 )", true},
		{"for any i in (1..#a1) : ( @a1[i] == 8 )", true},
		{"for all i in (0, 8) : ( $a1 at i )", true},
		{"for none i in (1, 2, 3) : ( $a1 at i )", true},
		{"for all i in (3..1) : ( true )", false},
		{"for any s in (\"x\", \"ab\") : ( s == \"ab\" )", true},
		{"for any i in (1..2) : ( for any j in (i..2) : ( i + j == 4 ) )", true},
		{"filesize == 16 and filesize < 1KB and filesize * 65536 == 1MB", true},
		{"uint8(12) == 0xfe and int8(12) == -2", true},
		{"uint16(12) == 0xfffe and int16(12) == -2 and uint16be(12) == 0xfeff and int16be(12) == -257", true},
		{"uint32(12) == 0xfffffffe and int32(12) == -2 and uint32be(12) == 0xfeffffff and int32be(12) == -16777217", true},
		{"defined uint32(13) or defined uint8(-1)", false},
		{"1 + 2 * 3 == 7 and (1 + 2) * 3 == 9 and 7 \\ 2 == 3 and 7 % 4 == 3", true},
		{"1 | 2 ^ 3 & 6 == 1", true},
		{"1 << 4 == 16 and -16 >> 2 == -4 and 1 << 64 == 0 and ~0 == -1", true},
		{"not defined 1 \\ #b and not defined 1 % #b and not defined 1 << (#b - 1)", true},
		{"1.5 + 1 > 2 and 1 == 1.0 and 3.0 \\ 2 == 1.5", true},
		{"0x10 == 16 and 0o17 == 15", true},
		{`"abc" contains "b" and "aBc" icontains "Bc" and "abc" startswith "a" and "abc" endswith "bc"`, true},
		{`"ABC" istartswith "ab" and "abC" iendswith "BC" and "aB" iequals "Ab" and "a" < "b"`, true},
		{`"foobar" matches /o+b/ and not "foobar" matches /^b/`, true},
		{"true and not false", true},
	} {
		got := on(t, strs+test.condition, data)
		if _, ok := got["r"]; ok != test.want {
			t.Errorf("%s: %v; want %v", test.condition, ok, test.want)
		}
	}
}

func TestRulesTogether(t *testing.T) {
	const text = `
private rule hidden { strings: $a = "x" condition: $a }
rule uses { strings: $s = "y" private $t = "y" condition: hidden and $s }
rule both { condition: all of (hidden, use*) }
rule nobody { condition: 1 of (both) and not hidden }
`
	got := ours(t, compile(t, text), []byte("x y"))
	want := map[string][]string{"uses": {"0x2:$t"}, "both": {}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v; want %v", got, want)
	}
	one, err := yara.Parse("one.yar", []byte(`global rule g { condition: filesize > 9 } rule a { condition: true }`))
	if err != nil {
		t.Fatal(err)
	}
	two, err := yara.Parse("two.yar", []byte(`rule a { condition: true }`))
	if err != nil {
		t.Fatal(err)
	}
	set, refused := yara.Compile(one, two)
	if len(refused) > 0 {
		t.Fatal(refused)
	}
	for data, want := range map[string]string{"": "two.yar:a", "0123456789": "one.yar:a one.yar:g two.yar:a"} {
		matches, _, err := set.Match(t.Context(), []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range matches {
			got = append(got, m.Rule.File+":"+m.Rule.Name)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("on %q: %v; want %s", data, got, want)
		}
	}
}

func TestMeta(t *testing.T) {
	r := compile(t, "rule r : t1 t2 { meta: a = \"b\" n = -3 t = true condition: true } // end").Rules()[0]
	want := []yara.Meta{{Name: "a", Value: "b"}, {Name: "n", Value: int64(-3)}, {Name: "t", Value: true}}
	if !slices.Equal(r.Meta, want) || !slices.Equal(r.Tags, []string{"t1", "t2"}) || r.Line != 1 || !strings.HasSuffix(r.Text, "true }") {
		t.Errorf("%+v", r)
	}
}

func TestSyntax(t *testing.T) {
	for text, want := range map[string]string{
		"rule":                        `x.yar:1: unexpected the end of the file, want the name of a rule`,
		"\nrule any { condition: 1 }": `x.yar:2: unexpected "any", want the name of a rule`,
		"rule a { condition: }":       `x.yar:1: unexpected "}" in a condition`,
		"rule a { strings:\n $a = \"x\n\" condition: $a }": `x.yar:2: a text does not end on its line`,
		"rule a { strings: $a = \"\\q\" condition: $a }":   `x.yar:1: unknown escape in a text: want \", \\, \t, \n, \r or \xNN`,
		"rule a { strings: $a = /x condition: $a }":        `x.yar:1: a regular expression does not end`,
		"rule a { strings: $a = { 61 condition: $a":        `x.yar:1: a hexadecimal string does not end`,
		"/* rule": `x.yar:1: a comment does not end`,
		"rule a { condition: 99999999999999999999 }":                             `x.yar:1: "99999999999999999999" is no number of 64 bits`,
		"rule a { condition: ; }":                                                `x.yar:1: unexpected character ';'`,
		"rule a { condition: " + strings.Repeat("(", 1000):                       `x.yar:1: nested deeper than 200`,
		"rule a { condition: 1" + strings.Repeat("+1", 1000) + "}":               `x.yar:1: an expression has more than 200 operators in a row`,
		"rule a { condition: any of ($a*) and $a* }":                             `x.yar:1: "$a*" stands for several strings: it belongs in a set`,
		"rule a { strings: $a = \"x\" xor(1-300) condition: $a }":                `x.yar:1: unexpected 300, want a number up to 255`,
		"rule a { condition: true } rule b : t t2 { meta: a = x condition: true": `x.yar:1: unexpected "x", want a text, a number, true or false`,
	} {
		if _, err := yara.Parse("x.yar", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%.60s: %v; want %s", text, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	const head = "import \"pe\"\n"
	for body, want := range map[string]string{
		`condition: pe.number_of_sections > 1`:                          "module pe is not supported",
		`condition: for any s in pe.sections : ( s.name == "x" )`:       "module pe is not supported",
		`condition: math.entropy(0, filesize) > 7`:                      "module math is not supported",
		`condition: foo.bar`:                                            "foo is not a module",
		`condition: filename == "x"`:                                    "filename is neither a rule of this file nor a variable: external variables are not supported",
		`condition: entrypoint == 1`:                                    "entrypoint is deprecated and not supported",
		`condition: $a`:                                                 "there is no string $a",
		`condition: any of them`:                                        "line 2: them are no strings: the rule has none",
		`condition: any of (x*)`:                                        "nothing is called x*",
		`condition: # > 1`:                                              "line 2: $ alone has a meaning in a loop over strings only",
		`condition: "a" + 1 == 2`:                                       "line 2: a text and an integer do not go with +",
		`condition: /a/`:                                                "a regular expression stands alone: it goes with matches only",
		`condition: later`:                                              "it needs the rule later, which does not stand before it",
		`condition: uint8("a") == 1`:                                    "line 2: a text where an integer is wanted",
		`strings: $a = "" condition: $a`:                                "string $a in line 2: it is empty",
		`strings: $a = "x" $a = "y" condition: $a`:                      "there are two strings $a",
		`strings: $a = "x" nocase xor condition: $a`:                    "string $a in line 2: xor goes with neither nocase nor base64",
		`strings: $a = "xyz" base64 fullword condition: $a`:             "string $a in line 2: base64 goes with neither nocase nor fullword",
		`strings: $a = "x" ascii ascii condition: $a`:                   "string $a in line 2: ascii is there twice",
		`strings: $a = /x/ xor condition: $a`:                           "string $a in line 2: xor does not go with a regular expression",
		`strings: $a = { 61 } wide condition: $a`:                       "string $a in line 2: wide does not go with a hexadecimal string",
		`strings: $a = "abc" base64("xyz") condition: $a`:               "string $a in line 2: the alphabet of base64 does not have 64 different characters",
		`strings: $a = "ab" base64 condition: $a`:                       "string $a in line 2: base64 wants at least three characters",
		`strings: $a = /(?:x)/ condition: $a`:                           "string $a in line 2: groups that begin with (? are not YARA's",
		`strings: $a = /(x)\1/ condition: $a`:                           "string $a in line 2: backreferences are not YARA's",
		`strings: $a = /x*?y+/ condition: $a`:                           "string $a in line 2: greedy and lazy quantifiers cannot be mixed",
		`strings: $a = /(x|y*)/ condition: $a`:                          "string $a in line 2: it can match no bytes at all",
		`strings: $a = /.{4}/ condition: $a`:                            "string $a in line 2: no byte of it is rare enough to look for",
		`strings: $a = /((a{999}){999}){999}/ condition: $a`:            "string $a in line 2: it is too large: more than 20000 bytes with its repetitions written out",
		`strings: $a = /a{3,2}/ condition: $a`:                          "string $a in line 2: the repetition {3,2} is not possible",
		`strings: $a = /[z-a]/ condition: $a`:                           "string $a in line 2: a range of a class runs backwards",
		`strings: $a = /a(b/ condition: $a`:                             "string $a in line 2: a group does not end",
		`strings: $a = { 61 6 } condition: $a`:                          "string $a in line 2: a byte has only one digit",
		`strings: $a = { 61 [4] } condition: $a`:                        "string $a in line 2: a jump stands at the beginning or the end",
		`strings: $a = { 61 [5-4] 62 } condition: $a`:                   "string $a in line 2: the jump [5-4] is not possible",
		`strings: $a = { 61 ( 62 | ) } condition: $a`:                   "string $a in line 2: an alternative is empty",
		`strings: $a = { 61 ( 62 [1-300] 63 | 64 ) } condition: $a`:     "string $a in line 2: a jump in alternatives is wider than 200",
		`condition: for any i in (1..2) : ( for any i in (1..2) : (1))`: "line 2: there is a variable i already",
	} {
		f, err := yara.Parse("x.yar", []byte(head+"rule r { "+body+" }\nrule later { condition: true }\nrule needs { condition: r and later }"))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		set, refused := yara.Compile(f)
		if len(refused) != 2 || refused[0].Reason != want || refused[0].Line != 2 || refused[0].Rule != "r" {
			t.Errorf("%s:\n%v\nwant %s", body, refused, want)
		}
		if len(refused) == 2 && refused[1].Reason != "it needs the rule r, which is refused" {
			t.Errorf("the rule that needs it: %v", refused[1])
		}
		if len(set.Rules()) != 1 {
			t.Errorf("%s: %d rules are left; want 1", body, len(set.Rules()))
		}
	}
}

func TestRefusalsOfFiles(t *testing.T) {
	f, err := yara.Parse("x.yar", []byte("include \"y.yar\"\nrule a { condition: true }\nrule a { condition: false }\n"))
	if err != nil {
		t.Fatal(err)
	}
	set, refused := yara.Compile(f)
	if len(set.Rules()) != 1 || fmt.Sprint(refused) != `[x.yar:1: include "y.yar" is not supported: name the folder of both files instead x.yar:3: rule a is refused: there is another rule of that name before it]` {
		t.Errorf("%v", refused)
	}
	f, err = yara.Parse("x.yar", []byte("rule a { condition: true }\nglobal rule g { condition: entrypoint > 1 }\n"))
	if err != nil {
		t.Fatal(err)
	}
	set, refused = yara.Compile(f)
	if len(set.Rules()) != 0 || len(refused) != 2 || refused[1].Error() != "x.yar:1: rule a is refused: the global rule g of this file is refused" {
		t.Errorf("%v", refused)
	}
}

// TestManyMatches keeps a string that is everywhere from filling the memory.
func TestManyMatches(t *testing.T) {
	set := compile(t, `rule r { strings: $a = "a" $b = /aa/ condition: #a == 100000 and #b == 100000 }`)
	matches, notes, err := set.Match(t.Context(), []byte(strings.Repeat("a", 500_000)))
	if err != nil || len(matches) != 1 || len(notes) != 2 || !strings.Contains(notes[0], "more than 100000 times") {
		t.Errorf("%d matches, notes %v, %v", len(matches), notes, err)
	}
	if again, notes, err := set.Match(t.Context(), []byte("aa")); err != nil || len(again) != 0 || len(notes) != 0 {
		t.Errorf("after it: %v, %v, %v", again, notes, err)
	}
}

// TestTime gives up when its time is over, whatever makes it slow.
func TestTime(t *testing.T) {
	for name, body := range map[string]string{
		"automata": `strings: $a = /a(.{0,900}b){1,5}c/s condition: $a`,
		"loops":    `condition: for all i in (0..1000000000000) : ( i >= 0 )`,
	} {
		t.Run(name, func(t *testing.T) {
			set := compile(t, "rule r { "+body+" }")
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			_, _, err := set.Match(ctx, []byte(strings.Repeat("a", 4<<20)))
			if err == nil || time.Since(began) > 5*time.Second {
				t.Errorf("%v after %v; want the end of the time", err, time.Since(began))
			}
		})
	}
}

// TestConcurrent tries one set from several goroutines.
func TestConcurrent(t *testing.T) {
	set := compile(t, `rule r { strings: $a = /x[0-9]+y/ $b = "abc" nocase condition: #a == 1 and $b }`)
	done := make(chan string)
	for i := range 8 {
		go func() {
			for j := range 50 {
				m, _, err := set.Match(context.Background(), fmt.Appendf(nil, "ABC x%dy", i*j))
				if err != nil || len(m) != 1 {
					done <- fmt.Sprint(m, err)
					return
				}
			}
			done <- ""
		}()
	}
	for range 8 {
		if s := <-done; s != "" {
			t.Error(s)
		}
	}
}

// features is a rule for each part of the language that real programs have
// something for.
const features = `
rule magic { strings: $e = { 7F 45 4C 46 } condition: $e at 0 and uint32be(0) == 0x7f454c46 }
rule texts { strings: $a = "GLIBC_2." $b = "libc.so.6" fullword $c = "Usage: " nocase condition: any of them }
rule regexes { strings: $v = /GLIBC_2\.[0-9]{1,2}(\.[0-9]+)?/ $p = /\/[a-z]+(\/[a-z.]+)+/ $w = /\b[A-Z][a-z]{3,8}\b/ condition: #v > 2 and ($p or $w) }
rule lazy { strings: $a = /lib.{1,12}?\.so/ $b = /%[0-9]*?[sdu]/ condition: any of them }
rule code { strings: $p = { 55 48 89 E5 } $c = { E8 ?? ?? ?? 00 [0-4] 85 C0 } $j = { 0F (84|85) ?? ?? 00 00 } $n = { F3 0F 1E FA } condition: 2 of them }
rule chains { strings: $a = { 7F 45 4C 46 [200-900] 2F 6C 69 62 } $b = { 2F 6C 69 62 [-] 47 4C 49 42 43 } condition: any of them }
rule hidden_words { strings: $x = "memory" xor(1-3) $w = "error" wide $b = "password" base64 condition: none of them or #x > 0 }
rule counts { strings: $z = { 00 00 00 00 00 00 00 01 } $r = "return" condition: #z in (0..4096) > 1 or #r < 3 }
rule loops { strings: $r = "GLIBC" condition: for any i in (1..#r) : ( uint8(@r[i] + !r[i]) == 0x5f ) and for all of them : ( # > 0 ) }
rule places { strings: $i = "/lib64/ld-linux" condition: $i in (0..2000) and @i < filesize and filesize < 100MB }
rule words { strings: $a = "exit" fullword $b = "open" fullword nocase $c = /[a-z]+_[a-z]+/ fullword condition: any of them }
rule wide_forms { strings: $a = "GNU" ascii wide $b = /std[a-z]+/ ascii wide condition: $a or $b }
rule sums { strings: $a = "a" condition: (#a * 3 + 1) % 7 != 9 and filesize & 0xff >= 0 and filesize >> 2 < filesize }
rule references { condition: magic and not wide_forms or places }
`

// TestFeaturesAgainstYARA compares one rule for each feature on programs of
// this system.
func TestFeaturesAgainstYARA(t *testing.T) {
	var files []string
	for _, pattern := range []string{"/usr/bin/[a-m]*", "/usr/lib/*/lib[a-d]*.so.*", "/etc/*.conf"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		kept := 0
		for _, name := range names {
			info, err := os.Stat(name)
			if err == nil && info.Mode().IsRegular() && info.Size() > 500 && info.Size() < 200_000 && kept < 15 {
				if f, err := os.Open(name); err == nil {
					f.Close()
					files = append(files, name)
					kept++
				}
			}
		}
	}
	pairs, held := compare(t, features, files)
	if len(files) > 20 && held < pairs/4 {
		t.Errorf("%d of %d pairs held: the rules test too little", held, pairs)
	}
	t.Logf("%d pairs of rule and file, %d rules held", pairs, held)
}

func FuzzParse(f *testing.F) {
	f.Add(features)
	f.Add("import \"pe\" include \"x\" private global rule a : b { meta: c = -1 strings: $ = { 61 [2-] (62|~6?) } private $b = /a{2,}[^]]/is condition: for 50% of ($*) : ( # in (1..2) > 1 ) }")
	f.Add("rule a { strings: $a = \"x\\x00\" xor(1-2) wide $b = \"abc\" base64(\"x\") condition: pe.x[1].y(2) and \"a\" matches /b/ and -1.5 \\ 2 < 3KB }")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := yara.Parse("f.yar", []byte(text))
		if err != nil {
			return
		}
		set, refused := yara.Compile(parsed)
		if len(text) > 0 && len(set.Rules())+len(refused) == 0 && strings.Contains(text, "condition") && !strings.ContainsAny(text, "/\"") {
			t.Errorf("rules are neither used nor refused")
		}
		for _, r := range refused {
			if r.Reason == "" || r.Line < 1 {
				t.Errorf("%+v", r)
			}
		}
	})
}

// FuzzMatch tries patterns on data, and holds what it finds against what the
// data say: places lie inside, and one after the other.
func FuzzMatch(f *testing.F) {
	f.Add(`"ab" nocase wide ascii`, "#a > 1", []byte("ab a\x00B\x00"))
	f.Add(`{ 61 [2-] 62 ( 63 | ~6? 64 ) }`, "$a in (0..filesize)", []byte("a..bc"))
	f.Add(`/^a(b|c*)+\b[^d]$/is`, "for any i in (1..#a) : ( uint16(@a[i]) == !a[i] )", []byte("abcx"))
	f.Add(`/\Ba.*b\b/ wide`, "50% of them", []byte("a\x00b\x00"))
	f.Fuzz(func(t *testing.T, value, condition string, data []byte) {
		parsed, err := yara.Parse("f.yar", []byte("rule r { strings: $a = "+value+" condition: "+condition+" } rule s { strings: $a = "+value+" condition: $a }"))
		if err != nil {
			return
		}
		set, _ := yara.Compile(parsed)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, _, err := set.Match(ctx, data)
		if err != nil {
			return
		}
		for _, m := range first {
			for _, s := range m.Strings {
				last := int32(-1)
				for _, at := range s.At {
					if at.Offset <= last || at.Length < 1 || int(at.Offset)+int(at.Length) > len(data) {
						t.Fatalf("%s is at %+v of %d bytes, after %d", s.Name, at, len(data), last)
					}
					last = at.Offset
				}
			}
		}
		second, _, err := set.Match(ctx, data)
		if err == nil && fmt.Sprint(first) != fmt.Sprint(second) {
			t.Errorf("a second time: %v; first %v", second, first)
		}
	})
}

// BenchmarkMatch tries four hundred rules on ten megabytes of a program.
func BenchmarkMatch(b *testing.B) {
	var text strings.Builder
	for i := range 400 {
		fmt.Fprintf(&text, "rule r%d { strings: $a = \"suspicious-%d\" $b = \"Marker%d\" nocase wide ascii $c = /https?:\\/\\/host%d\\.[a-z]{2,9}\\/[\\w\\/]+/ $d = { 48 8B %02X ?? 0F %02X [2-9] E8 } condition: any of them }\n", i, i, i, i, i%256, (i*7)%256)
	}
	f, err := yara.Parse("bench.yar", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	set, refused := yara.Compile(f)
	if len(refused) > 0 {
		b.Fatal(refused)
	}
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		b.Fatal(err)
	}
	data := program[:min(len(program), 10<<20)]
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, _, err := set.Match(b.Context(), data); err != nil {
			b.Fatal(err)
		}
	}
}
