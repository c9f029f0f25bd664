package layout

import (
	"testing"

	"github.com/loupe-sec/loupe/internal/core/inventory"
)

func TestSaidPlatform(t *testing.T) {
	for _, test := range []struct {
		path, format, arch string
		fits               bool
	}{
		{"prebuilds/linux-x64/a.node", "ELF", "x86_64", true},
		{"prebuilds/linux-x64/a.node", "Mach-O", "aarch64", false},
		{"prebuilds/linux-x64/a.node", "ELF", "aarch64", false},
		{"prebuilds/darwin-x64+arm64/a.node", "Mach-O", "aarch64", true},
		{"prebuilds/win32-x64/winpty-agent.exe", "PE", "x86", true},
		{"prebuilds/android-arm/a.node", "ELF", "arm", true},
		{"node_modules/@esbuild/linux-ppc64/bin/esbuild", "ELF", "ppc64le", true},
		{"addon.win32-arm64-msvc.node", "PE", "aarch64", true},
		{"addon.win32-arm64-msvc.node", "ELF", "aarch64", false},
		{"a-1.0-cp39-abi3-musllinux_1_2_x86_64.whl!/a.so", "ELF", "x86_64", true},
		{"lib/macosx_11_0_arm64/a.so", "ELF", "aarch64", false},
		{"linux-x64/vendor/other/a.node", "Mach-O", "aarch64", false},
		{"windows-terminal/a.node", "ELF", "x86_64", true},
		{"linux/a.wasm", "Wasm", "wasm32", true},
		{"src/win/a.node", "ELF", "x86_64", true},
		{"x86_64-unknown-linux-gnu/a.so", "ELF", "x86_64", true},
		{"x86_64-unknown-linux-gnu/a.so", "PE", "x86_64", false},
	} {
		b := &inventory.Binary{Path: test.path, Format: test.format, Arch: test.arch}
		if got := saidPlatform(test.path).fits(b); got != test.fits {
			t.Errorf("%s with %s for %s: fits is %v; want %v", test.path, test.format, test.arch, got, test.fits)
		}
	}
}
