package workspace_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/workspace"
)

// Every limit is met here, with what stays visible and the notes it leaves.
func TestLimits(t *testing.T) {
	zeros := strings.Repeat("\x00", 4<<20)
	small := member{"small", "s"}
	nested := zipOf(t, member{"b.zip", string(zipOf(t, member{"c.zip", string(zipOf(t, small))}))}, small)
	three := []member{{"1", "one"}, {"2", "two"}, {"3", "three"}}
	big := []member{{"big", strings.Repeat("0123456789", 100)}, small}
	bomb := []member{{"bomb", zeros}, small}
	long := []member{{strings.Repeat("n", 200), "long"}, small}
	deep := []member{{"a/b/c/d/deep", "deep"}, small}
	tested := map[string]bool{"Memory": true} // which cuts nothing off; see TestSpools
	for _, test := range []struct {
		limit, name string
		limits      workspace.Limits
		data        []byte
		want        []string // path=size
		notes       []string
	}{
		{"Depth", "x.zip", workspace.Limits{Depth: 2}, nested, []string{"b.zip!/c.zip=", "small=1"},
			[]string{"x.zip!/b.zip!/c.zip: not unpacked: archives lie more than 2 deep"}},
		{"Entries", "x.zip", workspace.Limits{Entries: 2}, zipOf(t, three...), []string{"1=3", "2=3"},
			[]string{"x.zip: not looked at to the end: archives hold more than 2 files"}},
		{"Entries", "x.tgz", workspace.Limits{Entries: 2}, gzipOf(t, tarOf(t, three...)), []string{"1=3", "2=3"},
			[]string{"x.tgz: not looked at to the end: archives hold more than 2 files"}},
		{"Entries", "x.a", workspace.Limits{Entries: 2}, arOf(three...), []string{"1=3", "2=3"},
			[]string{"x.a: not looked at to the end: archives hold more than 2 files"}},
		{"Bytes", "x.zip", workspace.Limits{Bytes: 5}, zipOf(t, three...), []string{"1=3", "2=2"},
			[]string{"x.zip: not looked at to the end: archives unpack to more than 5 bytes"}},
		{"Bytes", "x.tar", workspace.Limits{Bytes: 5}, tarOf(t, three...), []string{"1=3", "2=2"},
			[]string{"x.tar: not looked at to the end: archives unpack to more than 5 bytes"}},
		{"Bytes", "x.a", workspace.Limits{Bytes: 5}, arOf(three...), []string{"1=3", "2=2"},
			[]string{"x.a: not looked at to the end: archives unpack to more than 5 bytes"}},
		{"Bytes", "x.tgz", workspace.Limits{Bytes: 512 + 512 + 512 + 1}, gzipOf(t, tarOf(t, three...)), []string{"1=3", "2=1"},
			[]string{"x.tgz: not looked at to the end: archives unpack to more than 1537 bytes"}},
		{"Bytes", "x.gz", workspace.Limits{Bytes: 5}, gzipOf(t, []byte("0123456789")), []string{"x=5"},
			[]string{"x.gz: not looked at to the end: archives unpack to more than 5 bytes"}},
		{"FileBytes", "x.zip", workspace.Limits{FileBytes: 100}, zipOf(t, big...), []string{"big=100", "small=1"},
			[]string{"x.zip!/big: cut off after 100 of 1000 bytes: more than one file may have"}},
		{"FileBytes", "x.tar", workspace.Limits{FileBytes: 100}, tarOf(t, big...), []string{"big=100", "small=1"},
			[]string{"x.tar!/big: cut off after 100 of 1000 bytes: more than one file may have"}},
		{"FileBytes", "x.a", workspace.Limits{FileBytes: 100}, arOf(big...), []string{"big=100", "small=1"},
			[]string{"x.a!/big: cut off after 100 of 1000 bytes: more than one file may have"}},
		{"FileBytes", "x.tgz", workspace.Limits{FileBytes: 100}, gzipOf(t, tarOf(t, big...)), []string{"big=100", "small=1"},
			[]string{"x.tgz!/big: cut off after 100 of 1000 bytes: more than one file may have"}},
		{"FileBytes", "x.gz", workspace.Limits{FileBytes: 100}, gzipOf(t, []byte(big[0].data)), []string{"x=100"},
			[]string{"x.gz!/x: cut off after 100 of 1000 bytes: more than one file may have"}},
		{"Ratio", "x.zip", workspace.Limits{RatioFrom: 1 << 20}, zipOf(t, bomb...), []string{"bomb=1048576", "small=1"},
			[]string{"x.zip!/bomb: cut off after 1048576 of 4194304 bytes: it unpacks to more than 200 times"}},
		{"RatioFrom", "x.zip", workspace.Limits{Ratio: 2000, RatioFrom: 1}, zipOf(t, bomb...), []string{"bomb=4194304", "small=1"}, nil},
		{"Ratio", "x.tgz", workspace.Limits{RatioFrom: 1 << 20}, gzipOf(t, tarOf(t, bomb...)), []string{"bomb=", "small=1"},
			[]string{"x.tgz!/bomb: cut off after"}},
		{"Ratio", "x.zst", workspace.Limits{RatioFrom: 1 << 20}, zstdOf(t, []byte(zeros)), []string{"x="}, []string{"x.zst!/x: cut off after"}},
		{"NameBytes", "x.zip", workspace.Limits{NameBytes: 100}, zipOf(t, long...), []string{"small=1"},
			[]string{"x.zip!: not looked at: a member with a name of 200 bytes"}},
		{"NameBytes", "x.tar", workspace.Limits{NameBytes: 100}, tarOf(t, long...), []string{"small=1"},
			[]string{"x.tar!: not looked at: a member with a name of 200 bytes"}},
		{"PathDepth", "x.tgz", workspace.Limits{PathDepth: 3}, gzipOf(t, tarOf(t, deep...)), []string{"small=1"},
			[]string{"x.tgz!: not looked at: a member more than 3 folders deep"}},
		{"Time", "x.tgz", workspace.Limits{Time: 1}, gzipOf(t, tarOf(t, three...)), nil,
			[]string{"x.tgz: not looked at to the end: unpacking takes longer than 1ns"}},
		{"Time", "x.zip", workspace.Limits{Time: 1}, zipOf(t, three...), nil,
			[]string{"x.zip: not looked at to the end: unpacking takes longer than 1ns"}},
	} {
		tested[test.limit] = true
		t.Run(test.limit+" "+test.name, func(t *testing.T) {
			w := open(t, test.limits, test.name, test.data)
			after := []byte("the rest of the target")
			must(t, w.MountFile(workspace.Part{}, "z.txt", bytes.NewReader(after), int64(len(after)), nil))
			sizes := map[string]int{}
			for path, data := range contents(t, w) {
				sizes[path] = len(data)
			}
			if sizes["z.txt"] != len(after) {
				t.Error("the file after the archive is not shown")
			}
			delete(sizes, "z.txt")
			for _, want := range test.want {
				name, size, _ := strings.Cut(want, "=")
				path := test.name + "!/" + name
				got, shown := sizes[path]
				if !shown && !strings.HasSuffix(name, ".zip") || size != "" && size != strconv.Itoa(got) {
					t.Errorf("%s has %d bytes, want %s", path, got, size)
				}
				if test.limit == "Ratio" && got > 2<<20 {
					t.Errorf("%d bytes of the bomb are kept", got)
				}
				delete(sizes, path)
			}
			if len(sizes) > 0 {
				t.Errorf("also shown: %v", sizes)
			}
			expectNotes(t, w, test.notes...)
		})
	}
	for f := range reflect.TypeFor[workspace.Limits]().Fields() {
		if !tested[f.Name] {
			t.Errorf("the limit %s has no test", f.Name)
		}
	}
}

func TestDeepFolder(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "1/2/3/4"), 0o777))
	must(t, os.WriteFile(filepath.Join(dir, "1/2/3/f"), nil, 0o666))
	must(t, os.WriteFile(filepath.Join(dir, "1/2/3/4/g"), nil, 0o666))
	root, err := os.OpenRoot(dir)
	must(t, err)
	w := workspace.New(workspace.Limits{PathDepth: 3}, t.TempDir())
	defer w.Close()
	must(t, w.MountDir(workspace.Part{}, root, nil))
	if diff := cmp.Diff([]string{"1/2/3/f"}, paths(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, "1/2/3/4: not looked at: folders lie more than 3 deep")
}

// An archive that holds itself, and more of its kind, ends at the depth.
func TestEndless(t *testing.T) {
	data := zipOf(t, member{"end", "."})
	for range 40 {
		data = zipOf(t, member{"a.zip", string(data)}, member{"b.zip", string(data)})
		if len(data) > 1<<20 {
			break
		}
	}
	w := open(t, workspace.Limits{}, "x.zip", data)
	if got := len(paths(t, w)); got != 1<<(workspace.Defaults.Depth+1)-1 {
		t.Errorf("%d files", got)
	}
	if got := len(w.Notes()); got != 1<<workspace.Defaults.Depth {
		t.Errorf("%d notes", got)
	}
}

// Many bombs in one archive are no way around the ratio.
func TestManyBombs(t *testing.T) {
	var bombs []member
	for i := range 8 {
		bombs = append(bombs, member{strconv.Itoa(i), strings.Repeat("\x00", 2<<20)})
	}
	bombs = append(bombs, member{"noise", noise(100_000)})
	for name, data := range map[string][]byte{"x.zip": zipOf(t, bombs...), "x.tgz": gzipOf(t, tarOf(t, bombs...)), "x.txz": xzOf(t, tarOf(t, bombs...))} {
		w := open(t, workspace.Limits{RatioFrom: 2 << 20}, name, data)
		kept := 0
		for path, data := range contents(t, w) {
			kept += len(data)
			if strings.HasSuffix(path, "/noise") && len(data) != 100_000 {
				t.Errorf("%s: %d bytes of honest data are left", name, len(data))
			}
		}
		if kept > 13<<20 {
			t.Errorf("%s: %d bytes are kept of %d", name, kept, len(data))
		}
		if len(w.Notes()) < 6 {
			t.Errorf("%s: notes %v", name, w.Notes())
		}
	}
}

// Nor are ever so many small ones.
func TestHopeless(t *testing.T) {
	var bombs []member
	for i := range 100 {
		bombs = append(bombs, member{strconv.Itoa(i), strings.Repeat("\x00", 64<<10)})
	}
	w := open(t, workspace.Limits{RatioFrom: 256 << 10}, "x.tgz", gzipOf(t, tarOf(t, bombs...)))
	if got := len(contents(t, w)); got < 30 || got > 40 {
		t.Errorf("%d members", got)
	}
	expectNotes(t, w, "x.tgz: not looked at to the end: it unpacks to more than 200 times its packed size")
}

// patchZip changes the fields of the directory's record of a member.
func patchZip(data []byte, nth, field int, value uint32) []byte {
	data = bytes.Clone(data)
	at := -1
	for range nth + 1 {
		at += 1 + bytes.Index(data[at+1:], []byte("PK\x01\x02"))
	}
	binary.LittleEndian.PutUint32(data[at+field:], value)
	return data
}

// Fields of a record; the method follows the flags.
const zipFlags, zipSize, zipOffset = 8, 24, 42

func TestLyingZip(t *testing.T) {
	honest := zipOf(t, member{"a", strings.Repeat("a", 5000)}, member{"b", "b"})
	huge := patchZip(honest, 0, zipSize, 0xfffffff0)
	w := open(t, workspace.Limits{}, "x.zip", huge)
	if got := contents(t, w); len(got["x.zip!/a"]) != 5000 || got["x.zip!/b"] != "b" {
		t.Errorf("%d bytes, %q", len(got["x.zip!/a"]), got["x.zip!/b"])
	}
	expectNotes(t, w, "x.zip!/a: cut off after 28896 bytes: it cannot unpack to the 4294967280",
		"x.zip!/a: cut off after 5000 of 28896 bytes: the data ends early")

	small := patchZip(honest, 0, zipSize, 10)
	w = open(t, workspace.Limits{}, "x.zip", small)
	if got := contents(t, w)["x.zip!/a"]; got != "aaaaaaaaaa" {
		t.Errorf("%q", got)
	}
	expectNotes(t, w, "x.zip!/a: cut off: it unpacks to more bytes than")

	far := patchZip(honest, 0, zipOffset, 1<<30)
	w = open(t, workspace.Limits{}, "x.zip", far)
	if got := contents(t, w); len(got) != 1 {
		t.Errorf("%v", got)
	}
	expectNotes(t, w, "not looked at: members in 1 places that the directory does not list", "x.zip!/a: not looked at: there is no member where")

	same := patchZip(honest, 1, zipOffset, 0)
	w = open(t, workspace.Limits{}, "x.zip", same)
	contents(t, w)
	got := strings.Join(lines(w.Notes()), "\n")
	for _, want := range []string{"x.zip!: 1 members share bytes with others", `x.zip!/b: the member itself has another name: "a"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no note %q in %s", want, got)
		}
	}
}

// Marks that some installers do not heed hide nothing.
func TestDisguisedMembers(t *testing.T) {
	honest := zipOf(t, member{"a", strings.Repeat("a", 5000)}, member{"b", "b"})
	encrypted := patchZip(honest, 0, zipFlags, 1<<0|1<<3|uint32(zip.Deflate)<<16)
	unknown := patchZip(honest, 0, zipFlags, 1<<3|0x1234<<16)
	asStored := patchZip(honest, 0, zipFlags, 1<<3)
	for note, data := range map[string][]byte{
		"it is marked as encrypted and is not":             encrypted,
		"it is marked as packed by method 4660 and is not": unknown,
		"it is marked as stored and is packed":             asStored,
	} {
		w := open(t, workspace.Limits{}, "x.zip", data)
		want := map[string]string{"x.zip!/a": strings.Repeat("a", 5000), "x.zip!/b": "b"}
		if diff := cmp.Diff(want, contents(t, w)); diff != "" {
			t.Errorf("%s: %s", note, diff)
		}
		expectNotes(t, w, note, "the member and the directory disagree on how it is packed")
	}
}

func TestUnreadableMembers(t *testing.T) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, h := range []*zip.FileHeader{
		{Name: "secret", Flags: 1}, {Name: "lzma", Method: 14}, {Name: "stored"}, {Name: "dir/"},
	} {
		f, err := z.CreateRaw(h)
		must(t, err)
		if h.Name != "dir/" {
			f.Write(nil)
		}
	}
	link := &zip.FileHeader{Name: "link"}
	link.SetMode(fs.ModeSymlink | 0o777)
	inside := &zip.FileHeader{Name: "d/inside"}
	inside.SetMode(fs.ModeSymlink | 0o777)
	for h, target := range map[*zip.FileHeader]string{link: "../../etc/passwd", inside: "../stored"} {
		f, err := z.CreateHeader(h)
		must(t, err)
		f.Write([]byte(target))
	}
	must(t, z.Close())
	w := open(t, workspace.Limits{}, "x.zip", buf.Bytes())
	if diff := cmp.Diff([]string{"x.zip", "x.zip!/stored"}, paths(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, "x.zip!/link: not looked at: a link that leads out of the archive, to \"../../etc/passwd\"",
		"x.zip!/lzma: not looked at: zip's compression method 14 is not read", "x.zip!/secret: not looked at: it is encrypted")

	buf.Reset()
	tw := tar.NewWriter(&buf)
	for _, h := range []*tar.Header{
		{Name: "./", Typeflag: tar.TypeDir}, {Name: "real", Typeflag: tar.TypeReg, Size: 0},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "real"}, {Name: "a/hard-out", Typeflag: tar.TypeLink, Linkname: "../real"},
		{Name: "a/in", Typeflag: tar.TypeSymlink, Linkname: "../real"}, {Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "rooted", Typeflag: tar.TypeSymlink, Linkname: "/real"},
		{Name: "null", Typeflag: tar.TypeChar}, {Name: "pipe", Typeflag: tar.TypeFifo},
	} {
		must(t, tw.WriteHeader(h))
	}
	must(t, tw.Close())
	w = open(t, workspace.Limits{}, "x.tar", buf.Bytes())
	if diff := cmp.Diff([]string{"x.tar", "x.tar!/real"}, paths(t, w)); diff != "" {
		t.Error(diff)
	}
	expectNotes(t, w, "x.tar!/a/hard-out: not looked at: a link", "x.tar!/null: not looked at: a device", "x.tar!/out: not looked at: a link", "x.tar!/pipe: not looked at: a device")
}

// What asks for too much memory is refused before it gets it.
func TestWindows(t *testing.T) {
	huge := xzOf(t, []byte("hello\n"))
	i := bytes.Index(huge[12:], []byte("\x21\x01")) + 12 // the filter and the size of its properties
	huge[i+2] = 40                                       // 4 GB
	huge = repairXZ(huge)
	// Here the index tells that far less is needed.
	w := open(t, workspace.Limits{}, "x.xz", huge)
	if got := contents(t, w)["x.xz!/x"]; got != "hello\n" {
		t.Errorf("%q", got)
	}
	expectNotes(t, w)
	// Here it is not found.
	w = open(t, workspace.Limits{}, "x.xz", append(huge, 0, 0, 0, 0))
	contents(t, w)
	expectNotes(t, w, "x.xz: not looked at to the end: it needs 4096 MB of memory, more than 128")
	// RFC 8878, 3.1.1.1.2: a window of 2 GB
	w = open(t, workspace.Limits{}, "x.zst", []byte("\x28\xb5\x2f\xfd\x00\xa8\x09\x00\x00x"))
	contents(t, w)
	expectNotes(t, w, "x.zst: not looked at to the end: window size exceeded")
}

// cancelling is a file that cancels a context once it has been read far enough.
type cancelling struct {
	data   []byte
	after  int64
	cancel func()
	last   int64 // offset of the last read
}

func (c *cancelling) ReadAt(p []byte, off int64) (int, error) {
	const end = 1000 // where some look for marks first
	if c.last = off; off >= c.after && off < int64(len(c.data))-end {
		c.cancel()
	}
	return bytes.NewReader(c.data).ReadAt(p, off)
}

// Cancelling is heeded in the midst of one huge member, and is not remembered
// as a property of the archive.
func TestCancel(t *testing.T) {
	big := []byte(noise(4 << 20))
	limits := workspace.Limits{Ratio: 1 << 40, Memory: 1 << 20}
	for name, data := range map[string][]byte{"x.gz": gzipOf(t, big), "x.zip": zipOf(t, member{"x", string(big)})} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		src := &cancelling{data: data, after: int64(len(data)), cancel: cancel}
		w := workspace.New(limits, t.TempDir())
		must(t, w.MountFile(workspace.Part{}, name, src, int64(len(data)), nil))
		stop := func() { src.after, src.last = 30_000, 0 }
		var err error
		if name == "x.gz" { // is unpacked by the walk
			stop()
			err = w.Walk(ctx, func(workspace.Entry) error { return nil })
		} else {
			must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
				if e.Depth == 1 {
					stop()
					_, err = e.OpenContext(ctx)
				}
				return nil
			}))
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want that it was cancelled", name, err)
		}
		if src.last > 1<<20 {
			t.Errorf("%s: read until byte %d of %d", name, src.last, len(data))
		}
		src.after = int64(len(data))
		must(t, w.Walk(t.Context(), func(e workspace.Entry) error {
			if e.Depth == 1 && !bytes.Equal(read(t, e), big) {
				t.Errorf("%s: after the cancelled attempt the member is not whole", name)
			}
			return nil
		}))
		expectNotes(t, w)
		must(t, w.Close())
	}
}

// Cancelling is heeded where a decompressor reads much and gives nothing.
func TestCancelPadding(t *testing.T) {
	for name, packed := range map[string][]byte{"x.gz": gzipOf(t, []byte("x")), "x.xz": xzOf(t, []byte("x"))} {
		data := append(packed, make([]byte, 8<<20)...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		src := &cancelling{data: data, after: 100_000, cancel: cancel}
		w := workspace.New(workspace.Limits{}, t.TempDir())
		must(t, w.MountFile(workspace.Part{}, name, src, int64(len(data)), nil))
		if err := w.Walk(ctx, func(workspace.Entry) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: Walk = %v", name, err)
		}
		if src.last > 1<<20 {
			t.Errorf("%s: read until byte %d of %d", name, src.last, len(data))
		}
		must(t, w.Close())
	}
}
