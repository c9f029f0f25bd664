package known

import (
	"cmp"
	"slices"
	"strings"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// Named returns the library that a function of that name belongs to, mangled as
// in the file; [Own] if the name does not say. Names that programs give to
// functions of their own do not count, nor do those of templates and generic
// functions that are made for a closure: its code is put into them.
func Named(m *image.Image, name string) Library {
	if m.Format == image.PE && m.Arch == image.X86 && !strings.HasPrefix(name, "?") {
		name = strings.TrimPrefix(name, "_") // which compilers for it put in front
	}
	switch {
	case len(name) < 3:
		return Own
	case strings.HasPrefix(name, "_Z"):
		return itanium(name)
	case strings.HasPrefix(name, "_R"):
		return rustV0(name)
	case strings.HasPrefix(name, "?"):
		return visual(name)
	}
	bare := name
	if strings.Contains(name, ".") {
		for _, part := range []string{".cold", ".part.", ".constprop.", ".isra."} {
			bare, _, _ = strings.Cut(bare, part)
		}
	}
	table := elsewhere
	if m.Format == image.PE {
		table = onWindows
	}
	if l := table.exact[bare]; l != Own {
		return l
	}
	for _, p := range table.prefixes[bare[:2]] {
		if strings.HasPrefix(bare, p.prefix) {
			return p.library
		}
	}
	return Own
}

// A names table finds the library of a name of C. A name that ends with a star
// is the beginning of many.
type names struct {
	exact    map[string]Library
	prefixes map[string][]prefixed // by their first two characters
}

type prefixed struct {
	prefix  string
	library Library
}

var (
	elsewhere = newNames(everywhere, map[Library]string{
		Glibc: `_start _init _fini _dl_* _nl_* _IO_* __libc_* __GI_* __nptl_* __gconv* __resolv_* __nss_* __vfprintf_* __vfscanf_* __vfwprintf_* __mpn_* __printf_* __malloc_* __memcpy_* __memmove_* __memset_*
			__strlen_* __strchr_* __strcmp_* __strcasecmp_* __strncmp_* __strrchr_* __memchr_* __memcmp_* __wcslen_* __wmemset_* __rawmemchr_* __stpcpy_* __gettext*`,
		Musl:   "__stdio_* __musl_* __dls2* __dls3* __syscall_ret",
		Libgcc: "deregister_tm_clones register_tm_clones __do_global_dtors_aux frame_dummy",
	})
	onWindows = newNames(everywhere, map[Library]string{
		MinGW: `mainCRTStartup WinMainCRTStartup DllMainCRTStartup __tmainCRTStartup __DllMainCRTStartup __mingw* _mingw* _pei386_* __pei386_* _gnu_exception_handler _FindPESection* _ValidateImageBase _IsNonwritableInCurrentImage
			__w32_* __pformat_* __gdtoa __freedtoa __main __do_global_ctors __do_global_dtors __gcc_register_frame __gcc_deregister_frame mark_section_writable do_pseudo_reloc __report_error __dyn_tls_* __tlregdtor
			my_lconv_init pthread_* _pthread_* _setargv`,
		VisualC: `__scrt_* __acrt_* __vcrt_* __dcrt_* __crt_* _CRT_INIT pre_c_initialization pre_cpp_initialization post_pgo_initialization __security_* __report_gsfailure __report_rangecheckfailure
			__report_securityfailure* __raise_securityfailure _RTC_* __GSHandlerCheck* __C_specific_handler* __CxxFrameHandler* __FrameHandler* __InternalCxxFrameHandler* _CxxThrowException __std_exception_* __std_type_info_*
			__std_terminate __ehvec_* __delayLoadHelper2 __FUnloadDelayLoadedDLL2 __isa_available_init dllmain_crt_dispatch dllmain_crt_process_attach dllmain_crt_process_detach dllmain_dispatch dllmain_raw _DllMainCRTStartup
			__except_handler4 _except_handler4* capture_current_context capture_previous_context find_pe_section __local_stdio_printf_options __local_stdio_scanf_options`,
	})
)

// everywhere are the names that mean the same on all systems.
var everywhere = map[Library]string{
	OpenSSL: `EVP_* OPENSSL_* CRYPTO_* ossl_* OSSL_* SSL_CTX_* SSL_* ssl3_* tls1_* dtls1_* BN_* X509* ASN1_* BIO_* ERR_* PEM_* PKCS7_* PKCS12_* CMS_* OCSP_* ENGINE_* OBJ_nid2* OBJ_obj2* d2i_* i2d_*
		aesni_* vpaes_* bsaes_* sha1_block_* sha256_block_* sha512_block_* ecp_nistz256_* gcm_ghash_* gcm_gmult_* gcm_init_* bn_mul_mont* bn_sqr_* rsaz_*`,
	SQLite: "sqlite3*",
	Libuv:  "uv_* uv__*",
	Zlib: `deflate deflateInit* deflateSet* deflateEnd deflateReset* deflateParams deflateBound deflateTune deflatePrime deflateCopy deflate_stored deflate_fast deflate_slow inflate inflateInit* inflateEnd inflateReset*
		inflateSync* inflateBack* inflateSet* inflateGet* inflateCopy inflate_fast inflate_table _tr_* gzopen gzopen64 gzdopen gzread gzwrite gzclose* adler32 adler32_* crc32_z crc32_combine* zlibVersion`,
	Mimalloc: "mi_* _mi_*",
	Libgcc: `_Unwind_* __gcc_personality_* __register_frame* __deregister_frame* __gthread_* __emutls_* uw_frame_state* uw_update_context* uw_init_context* uw_install_context* execute_cfa_program* classify_object_over_fdes
		linear_search_fdes read_encoded_value* __popcountdi2 __divti3 __modti3 __udivti3 __umodti3 __udivmodti4 __multi3 __udivdi3 __umoddi3 __divdi3 __moddi3 __ashldi3 __ashrdi3 __lshrdi3 ___chkstk_ms __chkstk_ms`,
	Libstdcxx:  "__cxa_* __gxx_personality_* __gnu_cxx*",
	CompilerRT: "__asan_* __tsan_* __ubsan_* __msan_* __sanitizer_* __llvm_profile_*",
	RustStd:    "__rust_* __rdl_* __rg_* rust_begin_unwind rust_eh_personality rust_panic",
}

func newNames(tables ...map[Library]string) names {
	out := names{map[string]Library{}, map[string][]prefixed{}}
	for _, t := range tables {
		for l, text := range t {
			for name := range strings.FieldsSeq(text) {
				if p, many := strings.CutSuffix(name, "*"); many {
					out.prefixes[p[:2]] = append(out.prefixes[p[:2]], prefixed{p, l})
				} else {
					out.exact[name] = l
				}
			}
		}
	}
	for _, list := range out.prefixes { // the longest first
		slices.SortFunc(list, func(a, b prefixed) int {
			return cmp.Or(cmp.Compare(len(b.prefix), len(a.prefix)), strings.Compare(a.prefix, b.prefix))
		})
	}
	return out
}

// callers are templates of the standard library that exist to call what a
// program gives them.
var callers = []string{"_Function_handler", "_Invoker", "_State_impl", "__invoke", "_Bind", "_Task_", "_M_invoke", "call_once", "_M_run"}

// itanium judges names of C++, and of Rust in its older form (Itanium C++ ABI,
// section 5.1 "External Names").
func itanium(name string) Library {
	scope := strings.TrimPrefix(name, "_Z")
	if thunk, ok := strings.CutPrefix(scope, "Th"); ok { // behind one offset
		_, scope, _ = strings.Cut(thunk, "_")
	} else if thunk, ok := strings.CutPrefix(scope, "Tv"); ok { // behind two
		_, thunk, _ = strings.Cut(thunk, "_")
		_, scope, _ = strings.Cut(thunk, "_")
	}
	scope = strings.TrimLeft(scope, "Z") // something inside of a function
	if nested, ok := strings.CutPrefix(scope, "N"); ok {
		scope = strings.TrimLeft(nested, "rVKRO")
	}
	if isLegacyRust(name) {
		return legacyRust(scope)
	}
	var found Library
	switch {
	case hasAny(scope, "St3__1", "St6__ndk1", "St4__Cr"):
		found = Libcxx
	case hasAny(scope, "St", "Sa", "Sb", "Ss", "Si", "So", "Sd", "9__gnu_cxx", "10__cxxabiv1"):
		found = Libstdcxx
	default:
		return Own
	}
	if strings.Contains(name, "Ul") || strings.Contains(name, "XadL") || slices.ContainsFunc(callers, func(c string) bool { return strings.Contains(name, c) }) {
		return Own // a lambda or a function is among its arguments
	}
	return found
}

func hasAny(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// isLegacyRust reports whether a name ends as those of Rust do: with a hash of
// 16 digits.
func isLegacyRust(name string) bool {
	if !strings.HasSuffix(name, "E") {
		name, _, _ = strings.Cut(name, ".llvm.")
	}
	const tail = len("17h0123456789abcdefE")
	return len(name) > tail && strings.HasSuffix(name, "E") && strings.HasPrefix(name[len(name)-tail:], "17h")
}

// generic are the parts of Rust's library that call closures of a program, or
// are made for its types; older names do not tell for which.
var generic = []string{
	"4core3ops8function", "4core4iter", "4core5slice4sort", "4core5slice4iter", "4core6option", "4core6result", "4core5array", "4core3ptr", "4core4cell4once",
	"3std6thread", "3std2rt10lang_start", "3std9panicking3try", "3std9panicking9catch_unwind", "3std5panic", "3std10sys_common9backtrace", "3std3sys9backtrace", "3std4sync", "3std3sys4sync4once",
	"5alloc3vec", "5alloc5boxed", "5alloc4sync", "5alloc2rc",
}

// legacyRust judges the path of a name of Rust in its older form, which writes
// the type of an implementation between $LT$ and $GT$.
func legacyRust(path string) Library {
	if i := strings.Index(path, "_$LT$"); i >= 0 && i <= 3 {
		owner := path[i+len("_$LT$"):]
		if hasAny(owner, "std..", "core..fmt", "core..num", "core..str", "core..char", "alloc..string", "alloc..ffi") && !strings.Contains(owner, "closure") {
			return RustStd
		}
		return Own
	}
	if !hasAny(path, "3std", "4core", "5alloc", "12panic_unwind", "17compiler_builtins") || hasAny(path, generic...) {
		return Own
	}
	return RustStd
}

// rustV0 judges names of Rust's newer form ("Rust Symbol Mangling (v0)"): all
// crates that they name have to be those of its library.
func rustV0(name string) Library {
	found := false
	for i := 2; i+1 < len(name); i++ {
		if name[i] != 'C' {
			continue
		}
		crate, ok := crateRoot(name[i+1:])
		if !ok {
			continue
		}
		switch crate {
		case "std", "core", "alloc", "panic_unwind", "panic_abort", "compiler_builtins", "std_detect", "rustc_demangle", "__rustc":
			found = true
		default:
			return Own
		}
	}
	if found {
		return RustStd
	}
	return Own
}

// crateRoot reads the name of a crate behind its tag: a disambiguator, which is
// an s, digits of base 62 and an underscore, and the name with its length.
func crateRoot(s string) (string, bool) {
	if rest, ok := strings.CutPrefix(s, "s"); ok {
		digits, behind, ok := strings.Cut(rest, "_")
		if !ok || len(digits) > 11 {
			return "", false
		}
		s = behind
	}
	n, i := 0, 0
	for ; i < len(s) && i < 3 && s[i] >= '0' && s[i] <= '9'; i++ {
		n = n*10 + int(s[i]-'0')
	}
	s = strings.TrimPrefix(s[i:], "_")
	if n == 0 || n > len(s) {
		return "", false
	}
	return s[:n], true
}

// visual judges names of C++ as Microsoft's compiler mangles them: the scopes
// follow the name, the outermost last, and two at signs end them.
func visual(name string) Library {
	scopes, _, _ := strings.Cut(name, "@@")
	if strings.HasSuffix(scopes, "@std") && !strings.Contains(name, "<lambda") {
		return VisualC
	}
	return Own
}
