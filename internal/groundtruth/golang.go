package groundtruth

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

// A snippet is a behaviour in a language that brings its own library: the body
// of a function, and what it needs.
type snippet struct {
	name    string
	want    []inventory.BehaviorName
	may     []inventory.BehaviorName
	rule    string
	imports []string // packages of Go
	body    string
}

// inGo are the behaviours that are planted in Go programs. Each body returns an
// error.
var inGo = []snippet{
	{},
	{"connect", names(network), nil, "connects-out", []string{"net"}, `c, err := net.Dial("tcp", "192.0.2.1:443"); if err == nil { c.Close() }; return err`},
	{"listen", names(network), nil, "listens", []string{"net"}, `l, err := net.Listen("tcp", "127.0.0.1:0"); if err == nil { l.Close() }; return err`},
	{"dns", names(network), nil, "resolves-names", []string{"net"}, `_, err := net.LookupHost("registry.example"); return err`},
	{"http", names(network), names(filesystem, crypto), "http-client", []string{"net/http"}, `r, err := http.Get("http://registry.example/list"); if err == nil { r.Body.Close() }; return err`},
	{"udp", names(network), nil, "sends-datagrams", []string{"net"}, `c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 53}); if err == nil { c.Write([]byte("x")) }; return err`},
	{"tls", names(network), names(filesystem, crypto), "speaks-tls", []string{"crypto/tls"}, `c, err := tls.Dial("tcp", "registry.example:443", nil); if err == nil { c.Close() }; return err`},
	{"read file", names(filesystem), nil, "reads-writes-files", []string{"os"}, `_, err := os.ReadFile("/var/tmp/input.dat"); return err`},
	{"write file", names(filesystem), nil, "reads-writes-files", []string{"os"}, `return os.WriteFile("/var/tmp/output.dat", []byte("x"), 0o600)`},
	{"delete", names(filesystem), nil, "deletes-files", []string{"os"}, `return os.Remove("/var/tmp/old.dat")`},
	{"list folder", names(filesystem), nil, "lists-folders", []string{"os"}, `_, err := os.ReadDir("/var/tmp"); return err`},
	{"rename", names(filesystem), nil, "changes-files", []string{"os"}, `return os.Rename("/var/tmp/old.dat", "/var/tmp/new.dat")`},
	{"run program", names(process), names(filesystem), "starts-programs", []string{"context", "os/exec"}, `return exec.CommandContext(context.Background(), "true").Run()`},
	{"shell", names(process), names(filesystem), "runs-shell", []string{"context", "os/exec"}, `return exec.CommandContext(context.Background(), "/bin/sh", "-c", "id").Run()`},
	{"kill", names(process), nil, "ends-processes", []string{"os"}, `p, err := os.FindProcess(4242); if err == nil { err = p.Kill() }; return err`},
	{"aes", names(crypto), nil, "uses-aes", []string{"crypto/aes"}, `c, err := aes.NewCipher(make([]byte, 16)); if err == nil { c.Encrypt(room, room) }; return err`},
	{"sha-256", names(crypto), nil, "hashes-sha2", []string{"crypto/sha256"}, `s := sha256.Sum256(room); copy(room, s[:]); return nil`},
}

// goTargets are the machines that Go programs are built for.
var goTargets = []struct{ os, arch string }{{"linux", "amd64"}, {"windows", "amd64"}, {"linux", "arm64"}, {"darwin", "arm64"}}

// goProgram is a Go program: functions that compute, and one with a behaviour.
func goProgram(s snippet) string {
	var b strings.Builder
	b.WriteString("package main\n\nimport (\n\t\"fmt\"\n")
	for _, i := range s.imports {
		fmt.Fprintf(&b, "\t%q\n", i)
	}
	b.WriteString(")\n\nvar room = make([]byte, 64)\n\nvar armed bool\n\nfunc main() { fmt.Println(fill0(1)) }\n")
	const n = 32
	for i := range n {
		fmt.Fprintf(&b, "\n//go:noinline\nfunc fill%d(a int) int {\n\tfor i := range a & %d {\n\t\ta = a*%d ^ i\n\t}\n", i, 7+i, 3+2*i)
		if s.body != "" && i == n/2 {
			b.WriteString("\tif err := plant(); err != nil {\n\t\tfmt.Println(err)\n\t}\n")
		}
		if i+1 < n {
			fmt.Fprintf(&b, "\ta += fill%d(a + %d)\n", i+1, i)
		}
		b.WriteString("\treturn a\n}\n")
	}
	if s.body != "" {
		fmt.Fprintf(&b, "\n//go:noinline\nfunc plant() error {\n\tif !armed {\n\t\treturn nil\n\t}\n\t%s\n}\n", s.body)
	}
	return b.String()
}

// BuildGo writes Go programs with planted behaviours into folder: all for the
// first so many systems, or each for one of two in turn if systems is 0.
func BuildGo(ctx context.Context, folder string, systems int) ([]Truth, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, nil
	}
	work := filepath.Join(folder, "source", "go")
	defer os.RemoveAll(work)
	if err := write(filepath.Join(work, "go.mod"), "module plant.example\n\ngo 1.24\n"); err != nil {
		return nil, err
	}
	var truths []Truth
	for at, t := range goTargets[:cmp.Or(systems, 2)] {
		for _, stripped := range []bool{false, true} {
			target := "go-" + t.os + "-" + t.arch
			below := filepath.Join(folder, target, map[bool]string{false: "symbols", true: "stripped"}[stripped])
			if err := os.MkdirAll(below, 0o700); err != nil {
				return nil, err
			}
			args := []string{"go", "build", "-trimpath", "-o", below + string(filepath.Separator)}
			if stripped {
				args = append(args, "-ldflags=-s -w")
			}
			first := len(truths)
			for i, s := range inGo {
				if systems == 0 && (i%2 != at || i/2%2 == 0 != stripped) {
					continue // its turn is another time
				}
				name := cmp.Or(strings.ReplaceAll(s.name, " ", "-"), "nothing")
				if err := write(filepath.Join(work, name, "main.go"), goProgram(s)); err != nil {
					return nil, err
				}
				args = append(args, "./"+name)
				if t.os == "windows" {
					name += ".exe"
				}
				truth := Truth{
					File: filepath.ToSlash(filepath.Join(target, filepath.Base(below), name)), Target: target, Compiler: "go", Opt: "O2", Stripped: stripped,
					Behavior: s.name, Variant: Direct, Reach: Called, Want: s.want, May: s.may, Rule: s.rule,
				}
				if s.name == "" {
					truth.Variant = Control
				}
				truths = append(truths, truth)
			}
			env := append(os.Environ(), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GOPROXY=off", "GOTOOLCHAIN=local")
			if _, err := outputIn(ctx, work, env, args); err != nil {
				return nil, err
			}
			if err := locateGo(ctx, folder, work, env, truths[first:]); err != nil {
				return nil, err
			}
		}
	}
	return truths, nil
}

// locateGo finds the plants of Go programs: Go's own nm lists the functions of
// those with symbols; the others keep the table of lines, in which addr2line
// would look, but nothing lists. They are linked once more, with symbols, at
// the same addresses.
func locateGo(ctx context.Context, folder, work string, env []string, truths []Truth) error {
	for i := range truths {
		t := &truths[i]
		if t.Behavior == "" {
			continue
		}
		file := filepath.Join(folder, filepath.FromSlash(t.File))
		if t.Stripped {
			file = filepath.Join(work, "again")
			name := strings.TrimSuffix(filepath.Base(filepath.FromSlash(t.File)), ".exe")
			if _, err := outputIn(ctx, work, env, []string{"go", "build", "-trimpath", "-o", file, "./" + name}); err != nil {
				return err
			}
		}
		text, err := outputIn(ctx, work, env, []string{"go", "tool", "nm", "-size", file})
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 4 && f[3] == "main.plant" {
				addr, err := strconv.ParseUint(f[0], 16, 64)
				size, err2 := strconv.ParseUint(f[1], 10, 64)
				if err == nil && err2 == nil {
					t.Plant = append(t.Plant, Range{f[3], addr, addr + size})
				}
			}
		}
		if len(t.Plant) == 0 {
			return fmt.Errorf("%s: go tool nm does not list the plant", t.File)
		}
	}
	return nil
}

// outputIn runs a tool in a folder, with an environment.
func outputIn(ctx context.Context, folder string, env, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = folder, env
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, said.String()[:min(said.Len(), 2000)])
	}
	return slices.Clip(out), nil
}
