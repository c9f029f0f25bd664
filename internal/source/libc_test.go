package source

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

func TestLibc(t *testing.T) {
	file, link := &fstest.MapFile{}, func(to string) *fstest.MapFile {
		return &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte(to)}
	}
	for _, test := range []struct {
		name string
		root fstest.MapFS
		want string
	}{
		{"nothing", fstest.MapFS{}, "glibc"},
		{"glibc", fstest.MapFS{"lib64/ld-linux-x86-64.so.2": file}, "glibc"},
		{"musl", fstest.MapFS{"lib/ld-musl-x86_64.so.1": file}, "musl"},
		{"musl behind a link", fstest.MapFS{"lib/ld-musl-x86_64.so.1": link("/usr/lib/musl/lib/libc.so")}, "musl"},
		{"both, glibc's of x86-64", fstest.MapFS{"lib/ld-musl-x86_64.so.1": file, "lib64/ld-linux-x86-64.so.2": link("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")}, "glibc"},
		{"both, glibc's of ARM64", fstest.MapFS{"lib/ld-musl-aarch64.so.1": file, "lib/ld-linux-aarch64.so.1": file}, "glibc"},
		{"both, glibc's of s390x", fstest.MapFS{"lib/ld-musl-s390x.so.1": file, "lib/ld64.so.1": file}, "glibc"},
		{"musl under glibc's name", fstest.MapFS{"lib/ld-musl-x86_64.so.1": file, "lib64/ld-linux-x86-64.so.2": link("../lib/ld-musl-x86_64.so.1")}, "musl"},
		{"musl with gcompat", fstest.MapFS{"lib/ld-musl-x86_64.so.1": file, "lib/ld-linux-x86-64.so.2": file, "lib/libgcompat.so.0": file}, "musl"},
	} {
		if got := libcOf(test.root); got != test.want {
			t.Errorf("%s: %s; want %s", test.name, got, test.want)
		}
	}
}
