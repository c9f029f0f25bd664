package text

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// verdicts are parts of words that make a message say what a program does or
// refuses to.
func verdicts() []string {
	return strings.Fields(`fail error invalid cannot can't unable denied refuse unsupported unexpected unknown missing expected timeout timed
		password passphrase secret credential token salt cipher crypt signature hash certificate login session
		connect socket server proxy send receive download upload inject hook debug exploit shell spawn payload victim
		overflow corrupt permission usage: warning deprecated`)
}

func (s *search) sawVerdict([]byte, int, int) { s.verdict = true }

// runtimes are how messages begin that compilers and standard libraries bring
// into every program of their kind.
var runtimes = append(strings.Fields(`basic_string vector:: std:: pure_virtual terminate_called RefCell_ attempt_to internal_error:_entered capacity_overflow fatal_runtime_error
	assertion_failed: panicked_at thread_panicked thread_caused cannot_access_a_Thread user-provided_comparison already_borrowed already_mutably
	Once_instance Lazy_instance index_out_of_bounds a_formatting_trait failed_to_fill_whole failed_to_write_whole stream_did_not_contain description()_is
	overflow_in_Duration overflow_when_adding fatal_error:_ copy_from_slice: use_of_std::thread range_start range_end slice_index runtime: runtime_error
	reflect: reflect. sync: GODEBUG SIG gc: gcing mheap mspan malloc_ sched stack_ heapBits bad_ unaligned bulkBarrier Base_Class_Descriptor
	Class_Hierarchy Complete_Object Type_Descriptor string_too_long vector_too_long list_too_long map/set deque invalid_string_position invalid_vector
	unordered_map iostream_stream ios_base:: stoi_ stod_ stol_ invalid_sto address_family address_in address_not already_connected argument_list
	argument_out bad_address bad_alloc bad_array bad_cast bad_exception bad_file bad_function bad_message bad_variant bad_typeid broken_pipe
	connection_aborted connection_already connection_refused connection_reset connection_timed cross_device destination_address device_or_resource
	device_not directory_not executable_format file_exists file_too file_name_too filename_too function_not host_is host_unreachable identifier_removed
	illegal_byte illegal_seek inappropriate input/output interrupted invalid_argument invalid_exchange invalid_seek io_error is_a_directory machine_is
	message_size message_too network_ no_buffer no_child no_data no_error no_link no_lock no_message no_protocol no_space no_stream no_such no_route
	not_a_ not_connected not_enough not_supported numerical_ operation_ out_of_memory owner_dead permission_denied protocol_ read-only_file read_only
	result_ resource_ result_out state_not stale_nfs stream_timeout success text_file timed_out timer_ too_many_ transport_endpoint unknown_error
	unknown_exception value_too wrong_protocol wrong_medium arg_list can't_assign can't_send net_dropped socket_is socket_operation software_caused
	exec_format`),
	"called_`Option", "called_`Result", "`eh_vector", "`managed_vector", "`vector", "`copy_constructor", "`local", "`scalar", "`placement", "`virtual", "`dynamic", "`omni", "`udt")

var runtimeStarts = sync.OnceValue(func() *[256][]string {
	var starts [256][]string
	for _, r := range runtimes {
		r = strings.ToLower(strings.ReplaceAll(r, "_", " "))
		starts[r[0]] = append(starts[r[0]], r)
	}
	return &starts
})

// ofRuntime reports whether a message is of a compiler or standard library.
func ofRuntime(b []byte) bool {
	return slices.ContainsFunc(runtimeStarts()[fold(b[0])], func(r string) bool {
		if len(b) < len(r) {
			return false
		}
		for i := range len(r) {
			if fold(b[i]) != r[i] {
				return false
			}
		}
		return true
	})
}

// A tally counts bytes by what they are, each sort in eight bits of its own.
type tally uint64

const (
	letter tally = 1 << (8 * iota)
	vowel
	capital
	digit
	space
	odd // neither a letter nor a digit, nor what stands in many messages
)

func (t tally) of(sort tally) int { return int(t / sort & 0xff) }

// sorts says what each byte counts as.
var sorts = func() (out [256]tally) {
	for i := range out {
		switch c := byte(i); {
		case fold(c) >= 'a' && fold(c) <= 'z':
			out[i] = letter
			if strings.IndexByte("aeiouy", fold(c)) >= 0 {
				out[i] += vowel
			}
			if isUpper(c) {
				out[i] += capital
			}
		case c == ' ':
			out[i] = space
		case isDigit(c):
			out[i] = digit
		case strings.IndexByte(`_-.,':%/()"`, c) < 0:
			out[i] = odd
		}
	}
	return out
}()

// judge tells whether a text are words for a person, or a name, and how much
// it says; a score of 0 is for neither.
func judge(b []byte, verdict bool) (Kind, int) {
	b = bytes.TrimSpace(b)
	if len(b) < 5 || len(b) > longest {
		return "", 0
	}
	var t tally
	var words, run, longestWord, repeats int
	last := byte(0)
	for _, c := range b {
		one := sorts[c]
		t += one
		run = (run + 1) * int(one&1) // letters in a row
		longestWord = max(longestWord, run)
		if run == 2 {
			words++
		}
		if c == last {
			repeats++
		}
		last = c
	}
	letters, spaces, odds := t.of(letter), t.of(space), t.of(odd)
	n := len(b)
	if letters*10 < n*6 || t.of(vowel)*6 < letters || odds*6 > n || repeats*3 > n {
		return "", 0
	}
	if spaces == 0 || words < 2 {
		return Word, judgeWord(b, letters, t.of(capital), t.of(digit), odds, longestWord)
	}
	if spaces*2 > letters || longestWord > 30 {
		return "", 0
	}
	score := 18 + min(words, 6)
	if isUpper(b[0]) {
		score += 3
	}
	if odds > 0 {
		score -= 3
	}
	if verdict {
		score += 6
	}
	if ofRuntime(b) {
		score -= 12
	}
	if bytes.IndexByte(b, '%') >= 0 {
		score += 2
	}
	if n > 120 {
		score -= 5
	}
	if n < 8 {
		score -= 5
	}
	return Message, score
}

// judgeWord scores a text of one word: names that somebody chose are worth
// more than what compilers make of them.
func judgeWord(b []byte, letters, upper, digits, odds, longestWord int) int {
	if len(b) < 6 || longestWord < 4 || odds > 1 || longestWord > 24 && bytes.IndexByte(b, '_') < 0 {
		return 0
	}
	if b[0] == '.' || b[0] == '_' || bytes.Contains(b, []byte("@@")) || bytes.HasPrefix(b, []byte("GCC_")) || bytes.HasPrefix(b, []byte("GLIBC")) {
		return 1
	}
	if digits > 0 && isDigit(b[len(b)-1]) && bytes.IndexByte(b, '.') >= 0 || itaniumType(b) {
		return 2
	}
	score := 6
	if bytes.IndexByte(b, '_') > 0 || upper > 0 && upper < letters {
		score += 3
	}
	if len(b) >= 8 && len(b) <= 40 {
		score += 2
	}
	return score
}

// itaniumType reports whether b is a mangled type name as run-time type
// information has it: N4node5BufferE, 11BCryptAsync.
func itaniumType(b []byte) bool {
	b = bytes.TrimLeft(b, "NPKSt")
	return len(b) > 2 && isDigit(b[0]) && bytes.IndexByte(b, ' ') < 0
}
