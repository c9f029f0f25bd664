package known_test

import (
	"os"
	"strings"
	"testing"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
	"github.com/loupe-sec/loupe/internal/formats/native/known"
)

func TestNamed(t *testing.T) {
	elf := &image.Image{Format: image.ELF, Arch: image.X86_64}
	pe := &image.Image{Format: image.PE, Arch: image.X86_64}
	pe32 := &image.Image{Format: image.PE, Arch: image.X86}
	for _, test := range []struct {
		of   *image.Image
		name string
		want known.Library
	}{
		{elf, "", known.Own},
		{elf, "main", known.Own},
		{elf, "open", known.Own}, // who defines it in a shared library means to stand in for the C library
		{elf, "_start", known.Glibc},
		{elf, "_dl_map_object_from_fd", known.Glibc},
		{elf, "__libc_start_main", known.Glibc},
		{elf, "_Unwind_RaiseException", known.Libgcc},
		{elf, "uw_frame_state_for.cold", known.Libgcc},
		{elf, "__cxa_throw", known.Libstdcxx},
		{elf, "EVP_EncryptUpdate", known.OpenSSL},
		{elf, "AES_CBC_encrypt_buffer", known.Own}, // many programs have an AES of their own
		{elf, "sqlite3_prepare_v2", known.SQLite},
		{elf, "sqlite3VdbeExec", known.SQLite},
		{elf, "uv_run", known.Libuv},
		{elf, "deflate", known.Zlib},
		{elf, "deflated_by_me", known.Own},
		{elf, "mi_malloc", known.Mimalloc},
		{elf, "pthread_create", known.Own},
		{pe, "pthread_create", known.MinGW},
		{pe, "__tmainCRTStartup", known.MinGW},
		{pe32, "___tmainCRTStartup", known.MinGW},
		{pe32, "_main", known.Own},
		{pe, "__scrt_common_main_seh", known.VisualC},
		{pe, "__acrt_iob_func", known.VisualC},

		{elf, "_ZNSt6vectorIiSaIiEE17_M_realloc_insertIJiEEEvN9__gnu_cxx17__normal_iteratorIPiS1_EEDpOT_", known.Libstdcxx},
		{elf, "_ZNSt6vectorI3FooSaIS0_EE9push_backERKS0_", known.Libstdcxx},
		{elf, "_ZNKSt9exception4whatEv", known.Libstdcxx},
		{elf, "_ZThn16_NSdD1Ev", known.Libstdcxx},
		{elf, "_ZTv0_n24_NSt13basic_istreamIwSt11char_traitsIwEED0Ev", known.Libstdcxx},
		{elf, "_ZN9__gnu_cxx27__verbose_terminate_handlerEv", known.Libstdcxx},
		{elf, "_ZNSt3__112basic_stringIcNS_11char_traitsIcEENS_9allocatorIcEEE6appendEPKc", known.Libcxx},
		{elf, "_ZN3Foo3barESt6vectorIiSaIiEE", known.Own},
		{elf, "_ZNSt17_Function_handlerIFvvEZ4mainEUlvE_E9_M_invokeERKSt9_Any_data", known.Own},
		{elf, "_ZSt8for_eachIPiZ4mainEUliE_ET0_T_S3_S2_", known.Own},
		{elf, "_ZNSt6thread11_State_implINS_8_InvokerISt5tupleIJPFvvEEEEEE6_M_runEv", known.Own},

		{elf, "_ZN3std2io5stdio6_print17h0123456789abcdefE", known.RustStd},
		{elf, "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", known.RustStd},
		{elf, "_ZN4core3ops8function6FnOnce9call_once17h0123456789abcdefE", known.Own},
		{elf, "_ZN3std10sys_common9backtrace28__rust_begin_short_backtrace17h0123456789abcdefE", known.Own},
		{elf, "_ZN60_$LT$std..io..error..Error$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE", known.RustStd},
		{elf, "_ZN4core4initEv", known.Own}, // C++ with a namespace of that name
		{elf, "_ZN6mycode4main17h0123456789abcdefE", known.Own},
		{elf, "_RNvNtNtCs9k3SxhrAWiO_3std2io5stdio6__print", known.RustStd},
		{elf, "_RINvNtCsgxBkk5gSRhY_4core3ptr13drop_in_placeNtCs1234_6mycode3FooECs1234_6mycode", known.Own},
		{elf, "_RNvCs1234_7mycrate4main", known.Own},

		{pe, "?what@exception@std@@UEBAPEBDXZ", known.VisualC},
		{pe, "?run@widget@mine@@QEAAXXZ", known.Own},
		{pe, "?_Do_call@?$_Func_impl_no_alloc@V<lambda_1>@@X$$V@std@@EEAAXXZ", known.Own},
	} {
		if got := known.Named(test.of, test.name); got != test.want {
			t.Errorf("%s %s: %q is of %q, not %q", test.of.Format, test.of.Arch, test.name, got, test.want)
		}
	}
}

// TestGo looks at the program that runs the test.
func TestGo(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	b := open(t, path)
	c, marks := label(b)
	std, own := 0, 0
	for i, f := range c.Functions {
		want := known.Own
		switch {
		case strings.HasPrefix(f.Name, "runtime."), strings.HasPrefix(f.Name, "net/http."), strings.HasPrefix(f.Name, "fmt."):
			want = known.GoStd
			std++
		case strings.HasPrefix(f.Name, "github.com/"), strings.HasPrefix(f.Name, "golang.org/"), strings.HasPrefix(f.Name, "main."):
			own++
		default:
			continue
		}
		if marks[i].Library != want {
			t.Errorf("%s is of %q, not %q", f.Name, marks[i].Library, want)
		}
	}
	if std < 500 || own < 100 {
		t.Errorf("%d functions of Go's library and %d others are there", std, own)
	}
}

func FuzzNamed(f *testing.F) {
	for _, s := range []string{"_ZThn16_NSdD1Ev", "_RNvNtCs9k3SxhrAWiO_3std2io", "_ZN70_$LT$std..x17h0123456789abcdefE", "?x@std@@", "_RC", "_RCs", "_ZZNZN", "_Z", "___"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, name string, windows bool) {
		m := &image.Image{Format: image.ELF, Arch: image.X86_64}
		if windows {
			m = &image.Image{Format: image.PE, Arch: image.X86}
		}
		known.Named(m, name)
	})
}
