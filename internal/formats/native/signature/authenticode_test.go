package signature_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"

	"github.com/loupe-sec/loupe/internal/formats/native/pe"
	"github.com/loupe-sec/loupe/internal/formats/native/signature"
	"github.com/loupe-sec/loupe/internal/formats/native/signature/forge"
	"github.com/loupe-sec/loupe/internal/formats/native/synth"
)

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// build makes a binary without a signature of use.
func build(t testing.TB, yaml string) []byte {
	t.Helper()
	data, err := synth.FromYAML([]byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func program(t testing.TB) []byte {
	t.Helper()
	return build(t, "{format: pe, kind: executable, imports: [ExitProcess@KERNEL32.dll], strings: [hello]}")
}

// sign signs a PE file.
func sign(t testing.TB, data []byte, o forge.Order) []byte {
	t.Helper()
	out, err := forge.PE(data, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readPE(t testing.TB, data []byte) *signature.Signature {
	t.Helper()
	m, err := pe.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return signature.Read(m)
}

// problem reports whether one of the problems holds a text.
func problem(s *signature.Signature, text string) bool {
	return slices.ContainsFunc(s.Problems, func(p string) bool { return strings.Contains(p, text) })
}

func TestAuthenticode(t *testing.T) {
	data := sign(t, program(t), forge.Order{
		Signer: "Contoso Code Signing", Organization: "Contoso Ltd", Time: noon, Program: "Größe", URL: "https://registry.example/",
	})
	s := readPE(t, data)
	if s == nil || !s.Valid() || s.Broken() || len(s.Problems) > 0 {
		t.Fatalf("not valid: %+v", s)
	}
	if s.Kind != signature.Authenticode || s.Algorithm != "SHA-256" || s.Signer != "Contoso Code Signing" || s.Organization != "Contoso Ltd" ||
		s.Issuer != "Made-up CA" || s.SelfSigned || len(s.Serial) != 16 || !slices.Equal(s.Chain, []string{"Contoso Code Signing", "Made-up CA"}) {
		t.Errorf("signed by %+v", s)
	}
	if !s.NotBefore.Equal(forge.From) || !s.NotAfter.Equal(forge.To) || !s.Time.Equal(noon) || s.TimeBy != "Made-up Clock" {
		t.Errorf("valid from %s to %s, signed at %s by %q", s.NotBefore, s.NotAfter, s.Time, s.TimeBy)
	}
	if s.Program != "Größe" || s.URL != "https://registry.example/" || s.Unhashed != 0 || s.AdHoc {
		t.Errorf("%+v", s)
	}
}

func TestAuthenticodeDigests(t *testing.T) {
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		s := readPE(t, sign(t, program(t), forge.Order{Signer: "Contoso", Digest: h}))
		if !s.Valid() || s.Algorithm != h.String() || !s.Time.IsZero() {
			t.Errorf("%s: %+v", h, s)
		}
	}
}

// TestAuthenticodeDefects changes what was signed. Each defect must show, and
// be told from the others.
func TestAuthenticodeDefects(t *testing.T) {
	plain := program(t)
	good := sign(t, plain, forge.Order{Signer: "Contoso", Time: noon})
	other := sign(t, build(t, "{format: pe, imports: [Sleep@KERNEL32.dll]}"), forge.Order{Signer: "Contoso", Time: noon})
	entry := 0x80 + 24 + 112 + 4*8
	table := func(b []byte) uint32 { return binary.LittleEndian.Uint32(b[entry:]) }
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for _, test := range []struct {
		name              string
		data              []byte
		digest, signature signature.Verdict
		problem           string
	}{
		{"as signed", good, signature.Good, signature.Good, ""},
		{"checksum, which is not covered", edit(func(b []byte) []byte { b[0x80+24+64] ^= 1; return b }), signature.Good, signature.Good, ""},
		{"header", edit(func(b []byte) []byte { b[0x50] ^= 1; return b }), signature.Bad, signature.Good, "not what was signed"},
		{"last byte before the table", edit(func(b []byte) []byte { b[table(b)-1] ^= 1; return b }), signature.Bad, signature.Good, "not what was signed"},
		{"bytes appended", edit(func(b []byte) []byte { return append(b, "more"...) }), signature.Bad, signature.Good, "4 bytes follow the certificate table"},
		{"signature of another file", edit(func(b []byte) []byte {
			b = append(b[:table(b)], other[table(other):]...)
			binary.LittleEndian.PutUint32(b[entry+4:], uint32(len(other))-table(other))
			return b
		}), signature.Bad, signature.Good, "not what was signed"},
		{"digest in the message", edit(func(b []byte) []byte {
			i := bytes.Index(b, []byte{0x04, 0x20}) // the first octet string of 32 bytes is the digest of the file
			b[i+2] ^= 1
			return b
		}), signature.Bad, signature.Bad, "the content is not what was signed"},
		{"signed attributes", edit(func(b []byte) []byte {
			i := bytes.LastIndex(b[:bytes.Index(b, []byte("Made-up Clock"))], []byte{0x04, 0x20})
			j := bytes.Index(b[i:], []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04})
			b[i+j+len("123456789")+4] ^= 1
			return b
		}), signature.Good, signature.Bad, "the content is not what was signed"},
		{"message cut off", edit(func(b []byte) []byte { return b[:len(b)-200] }), signature.Unchecked, signature.Unchecked, "cut off"},
		{"table without a message", edit(func(b []byte) []byte { clear(b[table(b)+8:]); return b }), signature.Unchecked, signature.Unchecked, "cannot be read"},
		{"entry of another type", edit(func(b []byte) []byte { b[table(b)+6] = 1; return b }), signature.Unchecked, signature.Unchecked, "type 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := readPE(t, test.data)
			if s == nil {
				t.Fatal("no signature")
			}
			if s.Digest != test.digest || s.Signature != test.signature {
				t.Errorf("digest %s, signature %s (%q); want %s, %s", s.Digest, s.Signature, s.Problems, test.digest, test.signature)
			}
			if test.problem != "" && !problem(s, test.problem) || test.problem == "" && len(s.Problems) > 0 {
				t.Errorf("problems %q; want %q", s.Problems, test.problem)
			}
		})
	}
	if s := readPE(t, plain); s != nil {
		t.Errorf("a signature where there is none: %+v", s)
	}
}

func TestNestedSignature(t *testing.T) {
	data := sign(t, program(t), forge.Order{
		Signer: "Contoso", Digest: crypto.SHA1, Time: noon, Counter: true,
		Nested: []forge.Order{{Signer: "Contoso 2", Digest: crypto.SHA256, Time: noon.Add(time.Hour)}},
	})
	s := readPE(t, data)
	if !s.Valid() || s.Algorithm != "SHA-1" || !s.Time.Equal(noon) || len(s.Nested) != 1 || len(s.Problems) > 0 {
		t.Fatalf("%+v", s)
	}
	if n := s.Nested[0]; !n.Valid() || n.Algorithm != "SHA-256" || n.Signer != "Contoso 2" || !n.Time.Equal(noon.Add(time.Hour)) {
		t.Errorf("nested: %+v", n)
	}
	data[0x50] ^= 1
	if s := readPE(t, data); s.Digest != signature.Bad || s.Nested[0].Digest != signature.Bad {
		t.Errorf("changed: %s, nested %s", s.Digest, s.Nested[0].Digest)
	}
}

// TestTimestampsCount asks of a time stamp that it is of this signature, and
// that the certificate was valid then.
func TestTimestampsCount(t *testing.T) {
	for _, counter := range []bool{false, true} {
		data := sign(t, program(t), forge.Order{Signer: "Contoso", Time: noon, Counter: counter})
		i := bytes.Index(data, []byte("20250601120000Z"))
		if counter {
			i = bytes.Index(data, []byte("250601120000Z"))
		}
		data[i+1]++ // five years later, or ten
		s := readPE(t, data)
		if !s.Time.IsZero() || !problem(s, "time stamp does not count") || !s.Valid() {
			t.Errorf("counter signature %v: a changed time stamp gives %s, %q", counter, s.Time, s.Problems)
		}
	}
	late := readPE(t, sign(t, program(t), forge.Order{Signer: "Contoso", Time: noon, To: noon.AddDate(0, -1, 0)}))
	if !problem(late, "signed on 2025-06-01, when the certificate was not valid") {
		t.Errorf("signed after the certificate expired: %q", late.Problems)
	}
}

// TestTimestampOfAnother moves a good time stamp to another signature.
func TestTimestampOfAnother(t *testing.T) {
	stamp := []byte{0x2b, 6, 1, 4, 1, 0x82, 0x37, 3, 3, 1}
	plain := program(t)
	one := sign(t, plain, forge.Order{Signer: "Contoso 0", Time: noon})
	tail := bytes.TrimRight(one[bytes.Index(one, stamp):], "\x00") // without padding
	for n := range 50 {                                            // lengths of signatures differ by a byte or two
		other := sign(t, plain, forge.Order{Signer: fmt.Sprintf("Contoso %d", 1+n%9), Program: strings.Repeat("x", n/9), Time: noon})
		at := bytes.Index(other, stamp)
		if len(bytes.TrimRight(other, "\x00")) != at+len(tail) || bytes.HasPrefix(other[at:], tail) {
			continue
		}
		copy(other[at:], tail)
		s := readPE(t, other)
		if !s.Valid() || !s.Time.IsZero() || !problem(s, "it is for another signature") {
			t.Errorf("%+v", s)
		}
		return
	}
	t.Fatal("no two time stamps have the same length")
}

func TestUnhashedData(t *testing.T) {
	if s := readPE(t, sign(t, program(t), forge.Order{Signer: "Contoso", Hidden: 100})); s.Unhashed != 100 || !s.Valid() {
		t.Errorf("beside the message: %d bytes, %+v", s.Unhashed, s)
	}
	data := sign(t, program(t), forge.Order{Signer: "Contoso"})
	entry := 0x80 + 24 + 112 + 4*8
	size := binary.LittleEndian.Uint32(data[entry+4:])
	more := append(bytes.Clone(data), bytes.Repeat([]byte("hide"), 10)...)
	binary.LittleEndian.PutUint32(more[entry+4:], size+40)
	if s := readPE(t, more); s.Unhashed < 30 || s.Digest != signature.Good {
		t.Errorf("behind the entry: %d bytes, %+v", s.Unhashed, s)
	}
	rest := append(bytes.Clone(data), "hide it"...)
	binary.LittleEndian.PutUint32(rest[entry+4:], size+7)
	if s := readPE(t, rest); s.Unhashed != 7 || s.Digest != signature.Good {
		t.Errorf("in the last bytes of the table: %d bytes, %+v", s.Unhashed, s)
	}
	padded := append(bytes.Clone(data), make([]byte, 512)...)
	binary.LittleEndian.PutUint32(padded[entry+4:], size+512)
	if s := readPE(t, padded); s.Unhashed != 0 || !s.Valid() {
		t.Errorf("zeros hide nothing: %d bytes, %+v", s.Unhashed, s)
	}
}

// TestGapBetweenSections has signers who follow the document by the letter, and
// hash headers and sections alone, then as much of the end as is missing.
func TestGapBetweenSections(t *testing.T) {
	const gap = 512
	le := binary.LittleEndian
	plain := program(t)
	count := int(le.Uint16(plain[0x80+6:]))
	last := 0x80 + 24 + 240 + 40*(count-1)
	at := le.Uint32(plain[last+20:])
	data := slices.Concat(plain[:at], bytes.Repeat([]byte("gap!"), gap/4), plain[at:])
	le.PutUint32(data[last+20:], at+gap)
	letter := func(file []byte) []byte {
		const checksum, entry = 0x80 + 24 + 64, 0x80 + 24 + 112 + 4*8
		end := at + gap + le.Uint32(file[last+16:])
		return slices.Concat(file[:checksum], file[checksum+4:entry], file[entry+8:at], file[at+gap:end], file[end-gap:])
	}
	for _, hashed := range []func([]byte) []byte{nil, letter} {
		s := readPE(t, sign(t, data, forge.Order{Signer: "Contoso", Hashed: hashed}))
		want := 0
		if hashed != nil {
			want = gap
		}
		if !s.Valid() || s.Unhashed != want {
			t.Errorf("by the letter %v: %d bytes are not hashed, %+v", hashed != nil, s.Unhashed, s)
		}
	}
}

// TestOtherContent has messages that are good by themselves, and not about the
// digest of a binary.
func TestOtherContent(t *testing.T) {
	cert, key := newKey(t)
	m, err := pkcs7.NewSignedData([]byte("a letter"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddSigner(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	message, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if s := readPE(t, withTable(program(t), withMessage(message))); s.Signature != signature.Bad || !problem(s, "is not the digest of a binary") || s.Signer != "Fabrikam" {
		t.Errorf("%+v", s)
	}
	data := sign(t, program(t), forge.Order{Signer: "Contoso"})
	image := []byte{0x2b, 6, 1, 4, 1, 0x82, 0x37, 2, 1, 15}
	data[bytes.Index(data, image)+9] = 21 // a Java class
	if s := readPE(t, data); s.Digest != signature.Bad || !problem(s, "for another kind of file") {
		t.Errorf("%+v", s)
	}
}

func TestSelfSigned(t *testing.T) {
	s := readPE(t, sign(t, program(t), forge.Order{Signer: "Contoso", Issuer: "Contoso"}))
	if !s.SelfSigned || !s.Valid() || !problem(s, "nobody but the signer") || len(s.Chain) != 1 {
		t.Errorf("%+v", s)
	}
}

// TestOsslsigncode signs with osslsigncode and reads, and has it verify what
// package forge signs.
func TestOsslsigncode(t *testing.T) {
	for _, tool := range []string{"osslsigncode", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not there")
		}
	}
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil && !slices.Contains(args, "verify") {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("plain.exe", program(t))
	run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "3650", "-subj", "/O=Fabrikam/CN=Fabrikam Signing")
	for _, h := range []struct{ flag, name string }{{"md5", "MD5"}, {"sha1", "SHA-1"}, {"sha256", "SHA-256"}, {"sha384", "SHA-384"}} {
		out := h.flag + ".exe"
		run("osslsigncode", "sign", "-certs", "cert.pem", "-key", "key.pem", "-h", h.flag, "-n", "A program", "-i", "https://registry.example", "-in", "plain.exe", "-out", out)
		data, err := os.ReadFile(filepath.Join(dir, out))
		if err != nil {
			t.Fatal(err)
		}
		s := readPE(t, data)
		if !s.Valid() || s.Algorithm != h.name || s.Organization != "Fabrikam" || s.Program != "A program" || !s.SelfSigned || s.Unhashed != 0 {
			t.Errorf("%s: %+v", h.flag, s)
		}
	}
	run("osslsigncode", "sign", "-nest", "-certs", "cert.pem", "-key", "key.pem", "-h", "sha256", "-in", "sha1.exe", "-out", "both.exe")
	run("osslsigncode", "sign", "-ph", "-certs", "cert.pem", "-key", "key.pem", "-h", "sha256", "-in", "plain.exe", "-out", "pages.exe")
	run("osslsigncode", "sign", "-addUnauthenticatedBlob", "-certs", "cert.pem", "-key", "key.pem", "-h", "sha256", "-in", "plain.exe", "-out", "blob.exe")
	for _, test := range []struct {
		file     string
		nested   int
		unhashed bool
	}{{"both.exe", 1, false}, {"pages.exe", 0, false}, {"blob.exe", 0, true}} {
		data, err := os.ReadFile(filepath.Join(dir, test.file))
		if err != nil {
			t.Fatal(err)
		}
		s := readPE(t, data)
		if !s.Valid() || len(s.Nested) != test.nested || s.Unhashed > 0 != test.unhashed || test.nested > 0 && !s.Nested[0].Valid() {
			t.Errorf("%s: %+v", test.file, s)
		}
	}

	write("forged.exe", sign(t, program(t), forge.Order{Signer: "Contoso", Time: noon, Nested: []forge.Order{{Signer: "Contoso", Digest: crypto.SHA384}}}))
	out := run("osslsigncode", "verify", "-in", "forged.exe")
	for _, h := range []string{"SHA256", "SHA384"} {
		_, rest, _ := strings.Cut(out, "Message digest algorithm  : "+h)
		now, rest, _ := strings.Cut(rest, "Calculated message digest :")
		_, now, _ = strings.Cut(now, "Current message digest    :")
		calculated, _, _ := strings.Cut(rest, "\n")
		if strings.TrimSpace(now) == "" || strings.TrimSpace(now) != strings.TrimSpace(calculated) {
			t.Errorf("osslsigncode does not agree on %s:\n%s", h, out)
		}
	}
}

func FuzzAuthenticode(f *testing.F) {
	plain := program(f)
	for _, o := range []forge.Order{
		{Signer: "A", Time: noon, Program: "p", URL: "u"},
		{Signer: "B", Digest: crypto.SHA1, Time: noon, Counter: true, Nested: []forge.Order{{Signer: "C"}}, Hidden: 9},
		{Signer: "D", Issuer: "D"},
	} {
		f.Add(sign(f, plain, o))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := pe.Parse(data); err == nil {
			checkSane(t, signature.Read(m), len(data))
		}
	})
}

// withTable puts a certificate table behind a PE file.
func withTable(plain, table []byte) []byte {
	data := append(bytes.Clone(plain), make([]byte, -len(plain)&7)...)
	entry := 0x80 + 24 + 112 + 4*8
	binary.LittleEndian.PutUint32(data[entry:], uint32(len(data)))
	binary.LittleEndian.PutUint32(data[entry+4:], uint32(len(table)))
	return append(data, table...)
}

// withMessage makes a certificate table of one message.
func withMessage(message []byte) []byte {
	table := binary.LittleEndian.AppendUint32(nil, uint32(8+len(message)))
	return append(append(table, 0, 2, 2, 0), message...)
}

// TestHostileMessages has a limit of time, of the test as a whole: each of them
// would take for ever if work grew faster than they do.
func TestHostileMessages(t *testing.T) {
	plain := program(t)
	head := []byte("\x30\x84\x00\x80\x00\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x84\x00\x7f\xff\xe0")
	for name, message := range map[string][]byte{
		"deep":                bytes.Repeat([]byte{0x30, 0x80}, 4<<20),
		"deep in signed data": append(bytes.Clone(head), bytes.Repeat([]byte{0x30, 0x80}, 4<<20)...),
		"open, wide":          append([]byte{0x30, 0x80}, bytes.Repeat([]byte{0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0}, 1<<20)...),
		"many elements":       append(bytes.Clone(head), bytes.Repeat([]byte{0x30, 0}, 4<<20)...),
	} {
		s := readPE(t, withTable(plain, withMessage(message)))
		if s == nil || s.Valid() || s.Broken() || !problem(s, "cannot be read") {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func FuzzCertificateTable(f *testing.F) {
	plain := program(f)
	for _, o := range []forge.Order{
		{Signer: "A", Time: noon, Program: "p", URL: "u"},
		{Signer: "B", Digest: crypto.SHA1, Time: noon, Counter: true, Nested: []forge.Order{{Signer: "C"}}, Hidden: 9},
	} {
		data := sign(f, plain, o)
		f.Add(data[binary.LittleEndian.Uint32(data[0x80+24+112+4*8:]):])
	}
	f.Fuzz(func(t *testing.T, table []byte) {
		data := withTable(plain, table)
		if m, err := pe.Parse(data); err == nil {
			checkSane(t, signature.Read(m), len(data))
		}
	})
}

// checkSane asks of any signature, however broken, that it is not called more
// than it is, and that it stays small.
func checkSane(t *testing.T, s *signature.Signature, size int) {
	t.Helper()
	if s == nil {
		return
	}
	if problem(s, "reading the signature failed") || len(s.Problems) > 30 || s.Valid() && s.Broken() || s.Unhashed < 0 || s.Unhashed > 20*size {
		t.Errorf("%+v", s)
	}
	for _, n := range s.Nested {
		checkSane(t, n, size)
	}
}
