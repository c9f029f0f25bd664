package signature_test

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
	padded := append(bytes.Clone(data), make([]byte, 512)...)
	binary.LittleEndian.PutUint32(padded[entry+4:], size+512)
	if s := readPE(t, padded); s.Unhashed != 0 || !s.Valid() {
		t.Errorf("zeros hide nothing: %d bytes, %+v", s.Unhashed, s)
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
