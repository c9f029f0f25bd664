package report_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/loupe-sec/loupe/internal/core/inventory"
	"github.com/loupe-sec/loupe/internal/report"
)

// A report that was kept is shown as it was.
func TestKept(t *testing.T) {
	for name, sample := range samples {
		t.Run(name, func(t *testing.T) {
			r := sample()
			r.Rules = nil
			data, marks, err := report.Pack(r)
			if err != nil || marks != nil {
				t.Fatalf("Pack: %v, with %d bytes of marks", err, len(marks))
			}
			again, err := report.Unpack(data, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Formats {
				if name == "hostile" {
					continue // bytes that are no UTF-8 are kept as what JSON makes of them
				}
				var want, got bytes.Buffer
				if err := f.Write(&want, r, report.Options{}); err != nil {
					t.Fatal(err)
				}
				if err := f.Write(&got, again, report.Options{}); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want.String(), got.String()); diff != "" {
					t.Errorf("%s after it was kept (-before +after):\n%s", f.Name, diff)
				}
			}
		})
	}
}

func TestKeptMarks(t *testing.T) {
	r := pack()
	want := &inventory.Marks{Imports: []string{"connect"}, Functions: []inventory.Mark{{Name: "f", Addr: 1 << 63, Body: 1<<64 - 1, Imports: []int32{0}, Texts: []uint32{7}}}}
	r.Binaries[0].Marks = want
	data, marks, err := report.Pack(r)
	if err != nil || marks == nil || r.Binaries[0].Marks != want {
		t.Fatalf("Pack: %v, %d bytes of marks; the report keeps its own", err, len(marks))
	}
	without, err := report.Unpack(data, nil)
	if err != nil || without.Binaries[0].Marks != nil {
		t.Errorf("Unpack without marks: %v", err)
	}
	with, err := report.Unpack(data, marks)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, with.Binaries[0].Marks); diff != "" {
		t.Errorf("marks (-kept +read):\n%s", diff)
	}
}

func TestUnpackRefuses(t *testing.T) {
	good, _, err := report.Pack(pack())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "noise": []byte("noise"), "half": good[:len(good)/2]} {
		if _, err := report.Unpack(data, nil); err == nil {
			t.Errorf("Unpack(%s) is fine", name)
		}
	}
	if _, err := report.Unpack(good, good); err == nil {
		t.Error("Unpack takes a report for marks")
	}
}
