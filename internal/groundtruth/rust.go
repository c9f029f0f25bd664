package groundtruth

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/loupe-sec/loupe/internal/core/parallel"
)

// inRust are the behaviours that are planted in Rust programs. Each body
// returns what can be printed.
var inRust = []snippet{
	{},
	{"connect", names(network), nil, "connects-out", nil, `std::net::TcpStream::connect("192.0.2.1:443").is_ok()`},
	{"listen", names(network), nil, "listens", nil, `std::net::TcpListener::bind("127.0.0.1:0").is_ok()`},
	{"dns", names(network), nil, "resolves-names", nil, `std::net::ToSocketAddrs::to_socket_addrs("registry.example:443").is_ok()`},
	{"udp", names(network), nil, "sends-datagrams", nil, `std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.send_to(b"x", "192.0.2.1:53")).is_ok()`},
	{"read file", names(filesystem), nil, "reads-writes-files", nil, `std::fs::read_to_string("/var/tmp/input.dat").is_ok()`},
	{"write file", names(filesystem), nil, "reads-writes-files", nil, `std::fs::write("/var/tmp/output.dat", b"x").is_ok()`},
	{"delete", names(filesystem), nil, "deletes-files", nil, `std::fs::remove_file("/var/tmp/old.dat").is_ok()`},
	{"list folder", names(filesystem), nil, "lists-folders", nil, `std::fs::read_dir("/var/tmp").map(|d| d.count()).is_ok()`},
	{"rename", names(filesystem), nil, "changes-files", nil, `std::fs::rename("/var/tmp/old.dat", "/var/tmp/new.dat").is_ok()`},
	{"permissions", names(filesystem), nil, "changes-permissions", nil, `std::fs::set_permissions("/var/tmp/tool", std::os::unix::fs::PermissionsExt::from_mode(0o755)).is_ok()`},
	{"run program", names(process), nil, "starts-programs", nil, `std::process::Command::new("true").status().is_ok()`},
	{"shell", names(process), nil, "runs-shell", nil, `std::process::Command::new("/bin/sh").arg("-c").arg("id").status().is_ok()`},
}

// rustProgram is a Rust program: functions that compute, and one with a
// behaviour.
func rustProgram(s snippet) string {
	var b strings.Builder
	b.WriteString("use std::sync::atomic::{AtomicBool, Ordering};\nstatic ARMED: AtomicBool = AtomicBool::new(false);\nfn main() { println!(\"{} {}\", fill0(1), ARMED.load(Ordering::Relaxed)); }\n")
	const n = 32
	for i := range n {
		fmt.Fprintf(&b, "#[inline(never)]\nfn fill%d(mut a: u64) -> u64 {\n    for i in 0..(a & %d) { a = a.wrapping_mul(%d) ^ i; }\n", i, 7+i, 3+2*i)
		if s.body != "" && i == n/2 {
			b.WriteString("    if plant_it() { a += 1; }\n")
		}
		if i+1 < n {
			fmt.Fprintf(&b, "    a = a.wrapping_add(fill%d(a.wrapping_add(%d)));\n", i+1, i)
		}
		b.WriteString("    a\n}\n")
	}
	if s.body != "" {
		fmt.Fprintf(&b, "#[inline(never)]\n#[no_mangle]\npub extern \"C\" fn plant_it() -> bool {\n    if !std::hint::black_box(&ARMED).load(Ordering::Relaxed) { return false; }\n    %s\n}\n", s.body)
	}
	return b.String()
}

// BuildRust writes Rust programs with planted behaviours for this machine into
// folder; each only once, or at every level and with symbols or without.
func BuildRust(ctx context.Context, folder string, all bool) ([]Truth, error) {
	for _, tool := range []string{"rustc", "llvm-nm-16", "llvm-strip-16"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, nil
		}
	}
	host := &target{name: "rust", os: "linux", tool: "rustc"}
	work := filepath.Join(folder, "source", "rust")
	defer os.RemoveAll(work)
	var programs []*built
	var truths []Truth
	for i, s := range inRust {
		for j, opt := range []string{"0", "2", "s"} {
			for k, stripped := range []bool{false, true} {
				if !all && (i%3 != j || i%2 != k) {
					continue // its turn is another time
				}
				t := Truth{
					Target: host.name, Compiler: "rustc", Opt: "O" + opt, Stripped: stripped,
					Behavior: s.name, Variant: Direct, Reach: Called, Want: s.want, May: s.may, Rule: s.rule,
				}
				p := &built{program: &program{target: host, variant: Direct, opt: t.Opt, stripped: stripped}, code: rustProgram(s)}
				if s.name == "" {
					t.Variant, p.variant = Control, Control
				} else {
					p.behavior = &behavior{name: s.name}
				}
				t.File = p.file()
				programs, truths = append(programs, p), append(truths, t)
			}
		}
	}
	parallel.For(len(programs), func(i int) {
		p := programs[i]
		source := filepath.Join(work, fmt.Sprintf("p%d.rs", i))
		out := filepath.Join(folder, filepath.FromSlash(p.file()))
		p.err = cmp.Or(write(source, p.code), os.MkdirAll(filepath.Dir(out), 0o700))
		if p.err == nil {
			p.err = run(ctx, []string{"rustc", "--crate-name", "sample", "-C", "opt-level=" + strings.TrimPrefix(p.opt, "O"), "-o", out, source})
		}
	})
	for _, p := range programs {
		if p.err != nil {
			return nil, p.err
		}
	}
	return truths, locate(ctx, folder, programs, truths)
}
