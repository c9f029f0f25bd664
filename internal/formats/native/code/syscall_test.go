package code_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite syscalls.txt")

// syscallSources are the files of golang.org/x/sys with the numbers of each table.
var syscallSources = []struct{ table, file string }{
	{"linux/x86_64", "zsysnum_linux_amd64.go"},
	{"linux/x86", "zsysnum_linux_386.go"},
	{"linux/aarch64", "zsysnum_linux_arm64.go"},
	{"linux/arm", "zsysnum_linux_arm.go"},
	{"linux/riscv64", "zsysnum_linux_riscv64.go"},
	{"linux/ppc64le", "zsysnum_linux_ppc64le.go"},
	{"linux/ppc64", "zsysnum_linux_ppc64.go"},
	{"linux/s390x", "zsysnum_linux_s390x.go"},
	{"linux/mips64", "zsysnum_linux_mips64.go"},
	{"linux/mips", "zsysnum_linux_mips.go"},
	{"linux/loongarch64", "zsysnum_linux_loong64.go"},
	{"darwin", "zsysnum_darwin_amd64.go"},
	{"freebsd", "zsysnum_freebsd_amd64.go"},
}

// TestSyscallTables makes the tables from the numbers in golang.org/x/sys, and
// compares.
func TestSyscallTables(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil || strings.TrimSpace(string(dir)) == "" {
		t.Skip("golang.org/x/sys is not there")
	}
	constant := regexp.MustCompile(`(?m)^\s+SYS_([A-Z0-9_]+)\s+=\s+(\d+)`)
	var b strings.Builder
	for _, source := range syscallSources {
		data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", source.file))
		if err != nil {
			t.Fatal(err)
		}
		names := map[int]string{}
		for _, m := range constant.FindAllStringSubmatch(string(data), -1) {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := names[n]; !ok {
				names[n] = strings.ToLower(m[1])
			}
		}
		fmt.Fprintf(&b, "%s:", source.table)
		last := -2
		for _, n := range slices.Sorted(maps.Keys(names)) {
			if n != last+1 || n%16 == 0 {
				fmt.Fprintf(&b, "\n%d", n)
			}
			fmt.Fprintf(&b, " %s", names[n])
			last = n
		}
		b.WriteString("\n")
	}
	if *update {
		if err := os.WriteFile("syscalls.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile("syscalls.txt")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Error("syscalls.txt is not what golang.org/x/sys says; run the test with -update")
	}
}
