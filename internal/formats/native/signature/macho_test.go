package signature_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/smallstep/pkcs7"

	"github.com/loupe-sec/loupe/internal/formats/native/macho"
	"github.com/loupe-sec/loupe/internal/formats/native/signature"
	"github.com/loupe-sec/loupe/internal/formats/native/signature/forge"
)

const (
	granted = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "https://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>com.apple.security.cs.allow-jit</key><true/>
<key>com.apple.security.get-task-allow</key><false/>
<key>keychain-access-groups</key><array><string>A</string><dict><key>inner</key><true/></dict></array>
<key>com.apple.developer.team-identifier</key><string>TEAM</string>
</dict></plist>`
	hardened = 0x10000
)

// grantedDER grants "a" and "c", and "b" not, in DER.
var grantedDER = []byte("\x70\x1d\x02\x01\x01\xb0\x18" +
	"\x30\x06\x0c\x01a\x01\x01\xff" + "\x30\x06\x0c\x01b\x01\x01\x00" + "\x30\x06\x0c\x01c\x0c\x01x")

func library(t testing.TB) []byte {
	t.Helper()
	return build(t, "{format: macho, arch: aarch64, kind: executable, imports: [puts], strings: [hello], signed: true}")
}

func signMachO(t testing.TB, data []byte, o forge.Order) []byte {
	t.Helper()
	out, err := forge.MachO(data, o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readMachO(t testing.TB, data []byte) *signature.Signature {
	t.Helper()
	m, err := macho.Parse(data)
	if err != nil || len(m) != 1 {
		t.Fatalf("%d images, %v", len(m), err)
	}
	return signature.Read(m[0])
}

// superblob returns the signature in a file, which shares memory with it.
func superblob(data []byte) []byte { return data[bytes.Index(data, []byte("\xfa\xde\x0c\xc0")):] }

func TestMachO(t *testing.T) {
	for _, open := range []bool{false, true} {
		s := readMachO(t, signMachO(t, library(t), forge.Order{
			Signer: "Developer ID Application: Contoso (TEAM)", Organization: "Contoso", Unit: "TEAM", Team: "TEAM", Identifier: "com.contoso.tool",
			Flags: hardened, More: []crypto.Hash{crypto.SHA1, crypto.SHA384}, Entitlements: granted, DER: grantedDER,
			Requirements: []byte("\xfa\xde\x0c\x01\x00\x00\x00\x0c\x00\x00\x00\x00"), Time: noon, Open: open,
		}))
		if !s.Valid() || s.Broken() || len(s.Problems) > 0 || s.Kind != signature.MachO || s.AdHoc || s.Linker {
			t.Fatalf("open lengths %v: not valid: %+v", open, s)
		}
		if s.Signer != "Developer ID Application: Contoso (TEAM)" || s.Organization != "Contoso" || s.Team != "TEAM" || s.Identifier != "com.contoso.tool" || !s.Hardened {
			t.Errorf("signed by %+v", s)
		}
		want := []string{"a", "c", "com.apple.developer.team-identifier", "com.apple.security.cs.allow-jit", "keychain-access-groups"}
		if s.Algorithm != "SHA-384" || !s.Time.Equal(noon) || s.Unhashed != 0 || !slices.Equal(s.Entitlements, want) {
			t.Errorf("%+v", s)
		}
	}
}

func TestMachODigests(t *testing.T) {
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		s := readMachO(t, signMachO(t, library(t), forge.Order{Signer: "Contoso", Digest: h}))
		if !s.Valid() || s.Algorithm != h.String() || len(s.Problems) > 0 {
			t.Errorf("%s: %+v", h, s)
		}
	}
}

func TestAdHoc(t *testing.T) {
	for _, data := range [][]byte{library(t), signMachO(t, library(t), forge.Order{Flags: 0x20000})} {
		s := readMachO(t, data)
		if !s.Valid() || !s.AdHoc || s.Signature != signature.Unchecked || s.Signer != "" || s.Algorithm != "SHA-256" || len(s.Problems) > 0 {
			t.Errorf("%+v", s)
		}
	}
	if s := readMachO(t, signMachO(t, library(t), forge.Order{Flags: 0x20000})); !s.Linker {
		t.Errorf("not by the linker: %+v", s)
	}
	if s := readMachO(t, build(t, "{format: macho}")); s != nil {
		t.Errorf("a signature where there is none: %+v", s)
	}
}

// TestMachODefects changes what was signed. Each defect must show, and be told
// from the others.
func TestMachODefects(t *testing.T) {
	order := forge.Order{Signer: "Contoso", More: []crypto.Hash{crypto.SHA384}, Entitlements: granted, Requirements: []byte("\xfa\xde\x0c\x01\x00\x00\x00\x0c\x00\x00\x00\x00")}
	good := signMachO(t, library(t), order)
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	// slot edits the entry of a part in the index of the superblob.
	slot := func(n uint32, f func(entry []byte)) []byte {
		return edit(func(b []byte) []byte {
			s := superblob(b)
			for i := range binary.BigEndian.Uint32(s[8:]) {
				if e := s[12+8*i:]; binary.BigEndian.Uint32(e) == n {
					f(e[:8])
					return b
				}
			}
			t.Fatalf("no part %#x", n)
			return nil
		})
	}
	for _, test := range []struct {
		name              string
		data              []byte
		digest, signature signature.Verdict
		problem           string
	}{
		{"as signed", good, signature.Good, signature.Good, ""},
		{"code", edit(func(b []byte) []byte { b[bytes.Index(b, []byte("hello"))] ^= 1; return b }), signature.Bad, signature.Good, "are not what was signed, the first at offset"},
		{"entitlements", edit(func(b []byte) []byte { b[bytes.Index(b, []byte("allow-jit"))] ^= 1; return b }), signature.Bad, signature.Good, "part 0x5 of the signature is not what was signed"},
		{"no entitlements", slot(5, func(e []byte) { e[0] = 1 }), signature.Bad, signature.Good, "part 0x5 of the signature was taken away"},
		{"a hash of the code directory", edit(func(b []byte) []byte {
			s := superblob(b)
			d := s[binary.BigEndian.Uint32(s[16:]):]
			d[binary.BigEndian.Uint32(d[4:])-1] ^= 1
			return b
		}), signature.Bad, signature.Bad, "the content is not what was signed"},
		{"another part that is not covered", edit(func(b []byte) []byte {
			s := superblob(b)
			n := binary.BigEndian.Uint32(s[8:])
			copy(s[12+8*(n-1):], []byte{0, 0, 0, 8}) // what was the message is called a launch constraint
			return b
		}), signature.Good, signature.Unchecked, "part 0x8 of the signature is not covered by it"},
		{"alternate of another binary", edit(func(b []byte) []byte {
			s := superblob(b)
			at := bytes.Index(s[20:], []byte("\xfa\xde\x0c\x02")) + 20
			alternate := bytes.Index(s[at+4:], []byte("\xfa\xde\x0c\x02")) + at + 4
			s[alternate+15] ^= 0x40 // a flag
			return b
		}), signature.Good, signature.Bad, "does not vouch for the SHA-384 code directory"},
		{"cut off", good[:len(good)-1000], signature.Unchecked, signature.Unchecked, "cut off"},
		{"shorter than its header", edit(func(b []byte) []byte { binary.BigEndian.PutUint32(superblob(b)[4:], 1); return b }), signature.Good, signature.Good, "says that it has 1 bytes"},
		{"no code directory", slot(0, func(e []byte) { e[3] = 9 }), signature.Unchecked, signature.Unchecked, "no code directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := readMachO(t, test.data)
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
	if s := readMachO(t, signMachO(t, library(t), forge.Order{Signer: "Contoso", Unit: "OTHER", Team: "TEAM"})); !problem(s, `team "TEAM", and the certificate is of "OTHER"`) {
		t.Errorf("team of somebody else: %q", s.Problems)
	}
}

// TestAdHocDefects changes what a code directory says of the file.
func TestAdHocDefects(t *testing.T) {
	good := library(t)
	edit := func(offset int, v uint32) []byte {
		b := bytes.Clone(good)
		s := superblob(b)
		binary.BigEndian.PutUint32(s[int(binary.BigEndian.Uint32(s[16:]))+offset:], v)
		return b
	}
	limit := uint32(len(good) - len(superblob(good)))
	for _, test := range []struct {
		name    string
		data    []byte
		verdict signature.Verdict
		problem string
	}{
		{"as signed", good, signature.Good, ""},
		{"covers itself", edit(32, limit+1), signature.Bad, "covers itself"},
		{"covers more than there is", edit(32, limit+1<<20), signature.Bad, "bytes were signed, and"},
		{"covers less", edit(32, limit-4096), signature.Bad, "there are hashes for"},
		{"fewer hashes", edit(28, limit/4096), signature.Bad, "there are hashes for"},
		{"more hashes than bytes", edit(28, 1<<30), signature.Unchecked, "lie outside of it"},
		{"scattered", edit(44, 1), signature.Unchecked, "scattered"},
		{"tiny pages", edit(36, 32<<24|2<<16|4), signature.Unchecked, "pages of 16 bytes"},
		{"another hash", edit(36, 32<<24|9<<16|12), signature.Unchecked, "hashes of type 9"},
		{"not marked", edit(12, 0), signature.Good, "not marked as ad hoc"},
	} {
		s := readMachO(t, test.data)
		if s == nil || s.Digest != test.verdict || test.problem != "" && !problem(s, test.problem) || test.problem == "" && len(s.Problems) > 0 {
			t.Errorf("%s: %+v; want %s, %q", test.name, s, test.verdict, test.problem)
		}
	}
}

// TestInfoPlist checks the property list that lies inside a binary.
func TestInfoPlist(t *testing.T) {
	data := build(t, `{format: macho, signed: true, sections: [{name: "__TEXT,__info_plist", text: "<plist/>"}]}`)
	for info, want := range map[string]signature.Verdict{"<plist/>": signature.Good, "<other/>": signature.Bad} {
		s := readMachO(t, signMachO(t, data, forge.Order{Signer: "Contoso", Info: []byte(info)}))
		if s.Digest != want || problem(s, "the Info.plist in the binary") != (want == signature.Bad) {
			t.Errorf("%s: %+v", info, s)
		}
	}
	if s := readMachO(t, signMachO(t, library(t), forge.Order{Signer: "Contoso", Info: []byte("beside it")})); !s.Valid() {
		t.Errorf("an Info.plist that is not in the binary: %+v", s)
	}
}

// TestLeftover takes what lies behind a signature for the rest of an earlier
// one, unless it is too much for that.
func TestLeftover(t *testing.T) {
	data := library(t)
	command := bytes.Index(data, []byte("\x1d\x00\x00\x00\x10\x00\x00\x00"))
	for _, test := range []struct{ left, want int }{{5000, 0}, {100_000, 100_000}} {
		b := append(bytes.Clone(data), bytes.Repeat([]byte{1}, test.left)...)
		binary.LittleEndian.PutUint32(b[command+12:], uint32(len(superblob(b))))
		if s := readMachO(t, b); s == nil || s.Unhashed != test.want {
			t.Errorf("%d bytes: %+v", test.left, s)
		}
	}
}

func TestUnhashedBehindMachO(t *testing.T) {
	if s := readMachO(t, signMachO(t, library(t), forge.Order{Signer: "Contoso", Hidden: 100})); s.Unhashed != 100 || !s.Valid() {
		t.Errorf("%d bytes, %+v", s.Unhashed, s)
	}
}

// TestFatMachO reads the signature of each slice.
func TestFatMachO(t *testing.T) {
	m, err := macho.Parse(build(t, "{format: macho, arch: [x86_64, aarch64], signer: {name: Contoso, timestamp: true}}"))
	if err != nil || len(m) != 2 {
		t.Fatalf("%d images, %v", len(m), err)
	}
	for _, m := range m {
		if s := signature.Read(m); s == nil || !s.Valid() || s.Signer != "Contoso" || s.Time.IsZero() || s.Unhashed != 0 {
			t.Errorf("%s: %+v", m.Arch, s)
		}
	}
}

// newKey makes a key, and a certificate by itself.
func newKey(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(77), Subject: pkix.Name{CommonName: "Fabrikam"}, NotBefore: forge.From, NotAfter: forge.To}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestOtherWriter reads messages that another library makes.
func TestOtherWriter(t *testing.T) {
	cert, key := newKey(t)
	for _, detached := range []bool{true, false} {
		message := func(directory []byte) ([]byte, error) {
			m, err := pkcs7.NewSignedData(directory)
			if err != nil {
				return nil, err
			}
			m.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA384)
			if err := m.AddSigner(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
				return nil, err
			}
			if detached {
				m.Detach()
			}
			return m.Finish()
		}
		data := signMachO(t, library(t), forge.Order{Message: message})
		if s := readMachO(t, data); !s.Valid() || s.Signer != "Fabrikam" || s.Serial != "4d" || !s.SelfSigned {
			t.Errorf("detached %v: %+v", detached, s)
		}
	}
}

// TestMessageAboutOther has a message that brings along what it is about, which
// is not the code directory.
func TestMessageAboutOther(t *testing.T) {
	cert, key := newKey(t)
	message := func([]byte) ([]byte, error) {
		m, err := pkcs7.NewSignedData([]byte("another directory"))
		if err != nil {
			return nil, err
		}
		if err := m.AddSigner(cert, key, pkcs7.SignerInfoConfig{}); err != nil {
			return nil, err
		}
		return m.Finish()
	}
	s := readMachO(t, signMachO(t, library(t), forge.Order{Message: message}))
	if s.Signature != signature.Bad || s.Digest != signature.Good || !problem(s, "what was signed is not the code directory") {
		t.Errorf("%+v", s)
	}
}

// TestLinker reads what a linker signs.
func TestLinker(t *testing.T) {
	for _, tool := range []string{"clang-16", "ld64.lld-16"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not there")
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.c"), []byte("int f(int x) { return x * 3; }\nconst char big[40000] = {1};\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"clang-16", "--target=arm64-apple-macos11", "-c", "a.c"},
		{"ld64.lld-16", "-dylib", "-adhoc_codesign", "-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-install_name", "liba.dylib", "-o", "liba.dylib", "a.o"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "liba.dylib"))
	if err != nil {
		t.Fatal(err)
	}
	s := readMachO(t, data)
	if s == nil || !s.Valid() || !s.AdHoc || !s.Linker || s.Identifier != "liba.dylib" || s.Unhashed != 0 {
		t.Errorf("%+v", s)
	}
	data[len(data)/2] ^= 1
	if s := readMachO(t, data); !s.Broken() {
		t.Errorf("changed: %+v", s)
	}
}

func BenchmarkRead(b *testing.B) {
	data := build(b, "{format: macho, signed: true, sections: [{name: x, random: 8000000}]}")
	m, err := macho.Parse(data)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if s := signature.Read(m[0]); !s.Valid() {
			b.Fatalf("%+v", s)
		}
	}
}

func FuzzMachO(f *testing.F) {
	for _, o := range []forge.Order{
		{},
		{Signer: "A", Unit: "T", Team: "T", More: []crypto.Hash{crypto.SHA1}, Entitlements: granted, DER: grantedDER, Time: noon},
		{Signer: "B", Time: noon, Counter: true, Open: true},
	} {
		f.Add(signMachO(f, library(f), o))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		images, _ := macho.Parse(data)
		for _, m := range images[:min(len(images), 4)] {
			checkSane(t, signature.Read(m), len(data))
		}
	})
}

func FuzzSuperblob(f *testing.F) {
	plain := signMachO(f, library(f), forge.Order{Signer: "A"})
	code := plain[:len(plain)-len(superblob(plain))]
	command := bytes.Index(code, []byte("\x1d\x00\x00\x00\x10\x00\x00\x00"))
	for _, o := range []forge.Order{
		{},
		{Signer: "A", Unit: "T", Team: "T", More: []crypto.Hash{crypto.SHA1}, Entitlements: granted, DER: grantedDER, Time: noon},
		{Signer: "B", Time: noon, Counter: true, Open: true},
	} {
		f.Add(superblob(signMachO(f, library(f), o)))
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		data := append(bytes.Clone(code), blob...)
		binary.LittleEndian.PutUint32(data[command+12:], uint32(len(blob)))
		images, _ := macho.Parse(data)
		for _, m := range images {
			checkSane(t, signature.Read(m), len(data))
		}
	})
}
