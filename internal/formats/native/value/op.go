package value

import "github.com/loupe-sec/loupe/internal/formats/native/image"

// An op is a part of what an instruction does to registers and the stack, the
// same for all instruction sets. An instruction is none, one or a few of them;
// what an instruction does that no op can say is a kill.
type op struct {
	kind opKind
	dst  uint8 // register
	a, b uint8 // registers
	size uint8 // bytes; 0 for a whole register
	imm  int64
}

type opKind uint8

const (
	opSet     opKind = iota // dst = imm
	opAddress               // dst = imm, which is an address
	opCopy                  // dst = a
	opAdd                   // dst = a + b<<imm, or a + imm if b is none
	opSub                   // dst = a - b
	opAnd                   // dst = a & b, or a & imm if b is none; so with the next four
	opOr
	opXor
	opShl
	opShr
	opInsert  // dst = dst with the size*8 bits from bit imm>>32 replaced with the low bits of imm
	opLow     // the low size bytes of dst = those of a
	opSigned  // dst = dst, whose low size bytes are a signed number
	opLoad    // dst = the size bytes at a+imm
	opStore   // the size bytes at a+imm = b
	opKill    // dst is not known
	opCompare // the flags compare a with b, or with imm if b is none
	opTest    // the flags are of a & b, or of a & imm if b is none
	opOutcome // the flags compare a with 0
	opTruth   // dst = 1 if the condition imm&15 holds for the flags, else 0; the rest of imm is the address of the instruction
	opUnflag  // the flags are not known
)

// Registers: 0 to 31 for integers and 32 to 63 for vectors, then what no
// machine has.
const (
	vector = 32
	temp   = 64 + iota - 1
	temp2
	zero  // always 0
	unset // never known
	registers
	none = 255
)

// An inst is a decoded instruction.
type inst struct {
	addr   uint64
	target uint64 // of a direct call, jump or branch
	imm    int64  // of a compare in a branch; bytes that a return pops; what a Windows callee popped
	ops    int32  // its first op
	n      uint8  // ops
	size   uint8  // bytes
	flow   Flow
	via    uint8 // register that holds the target of an indirect call or jump; none
	cond   cond
	a, b   uint8 // registers that a branch compares, if not none: a with b, or with imm if b is none
	bit    bool  // a branch on bit imm of a
	joins  bool  // a jump or branch leads here
	head   bool  // one of them from behind: a loop begins here
}

// A cond is the condition of a branch.
type cond uint8

const (
	always cond = iota
	equal
	unequal
	less
	lessEqual
	greater
	greaterEqual
	negative
	positive
	other
)

func (c cond) String() string {
	return [16]string{equal: "==", unequal: "!=", less: "<", lessEqual: "<=", greater: ">", greaterEqual: ">=", negative: "<", positive: ">="}[c&15]
}

// opposite returns the condition that holds where c does not.
func (c cond) opposite() cond {
	return [16]cond{other, unequal, equal, greaterEqual, greater, lessEqual, less, positive, negative, other}[c&15]
}

// A machine is an instruction set that is read.
type machine struct {
	// decode decodes the instruction at the start of code, which is at addr, and
	// gives its ops to d. It returns false if there is none.
	decode func(d *decoder, code []byte, addr uint64) (inst, bool)

	step  int        // bytes to go on by where nothing can be decoded
	word  int64      // bytes of an address
	sp    uint8      // stack pointer
	fp    uint8      // frame pointer
	names [32]string // of the integer registers
}

// name returns that of an integer register.
func (m *machine) name(reg uint8) string {
	if int(reg) < len(m.names) {
		return m.names[reg]
	}
	return ""
}

var machines = map[image.Arch]*machine{
	image.X86_64:  &machineX86_64,
	image.X86:     &machineX86,
	image.AArch64: &machineARM64,
	image.ARM:     &machineARM,
	image.RISCV64: &machineRISCV,
}

// A decoder collects the ops of the instructions of one run of code.
type decoder struct {
	r     *Reader
	ops   []op
	entry uint64 // where decoding began
	thumb bool
	it    int // instructions of a Thumb IT block that are left
}

func (d *decoder) add(o op) { d.ops = append(d.ops, o) }

func (d *decoder) set(dst uint8, n int64, size uint8) {
	d.add(op{kind: opSet, dst: dst, imm: n, size: size})
}
func (d *decoder) address(dst uint8, addr uint64) {
	d.add(op{kind: opAddress, dst: dst, imm: int64(addr)})
}
func (d *decoder) copy(dst, a, size uint8) { d.add(op{kind: opCopy, dst: dst, a: a, size: size}) }
func (d *decoder) offset(dst, a uint8, n int64, size uint8) {
	d.add(op{kind: opAdd, dst: dst, a: a, b: none, imm: n, size: size})
}
func (d *decoder) alu(kind opKind, dst, a, b uint8, imm int64, size uint8) {
	d.add(op{kind: kind, dst: dst, a: a, b: b, imm: imm, size: size})
}
func (d *decoder) load(dst, base uint8, off int64, size uint8) {
	d.add(op{kind: opLoad, dst: dst, a: base, imm: off, size: size})
}
func (d *decoder) store(base uint8, off int64, src, size uint8) {
	d.add(op{kind: opStore, a: base, imm: off, b: src, size: size})
}
func (d *decoder) kill(dst uint8) { d.add(op{kind: opKill, dst: dst}) }
func (d *decoder) unflag()        { d.add(op{kind: opUnflag}) }
