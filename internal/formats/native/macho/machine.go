package macho

import (
	"fmt"

	"github.com/loupe-sec/loupe/internal/formats/native/image"
)

// cpu_type_t and cpu_subtype_t of <mach/machine.h>.
const (
	cpuARM   = 12
	cpu64    = 0x0100_0000 // CPU_ARCH_ABI64
	cpu64x32 = 0x0200_0000 // CPU_ARCH_ABI64_32

	subtypeMask = 0x00ff_ffff
	subARM64E   = 2
)

var archs = map[uint32]image.Arch{
	7:                 image.X86,
	7 | cpu64:         image.X86_64,
	8:                 image.MIPS,
	cpuARM:            image.ARM,
	cpuARM | cpu64:    image.AArch64,
	cpuARM | cpu64x32: image.AArch64,
	18:                image.PPC,
	18 | cpu64:        image.PPC64,
	24:                image.RISCV32,
	6:                 "m68k",
	11:                "hppa",
	14:                "sparc",
	15:                "i860",
	0x13 | cpu64:      "apple-gpu",
	0x17 | cpu64:      "air64",
	10:                "m98k",
	13:                "m88k",
	1:                 "vax",
}

// knownCPU says whether a cputype was ever in use.
func knownCPU(cpu uint32) bool { return archs[cpu] != "" }

func archName(cpu uint32) image.Arch {
	if a := archs[cpu]; a != "" {
		return a
	}
	return image.Arch(fmt.Sprintf("macho-cpu-%d", cpu))
}

// Values of filetype in struct mach_header.
const (
	typeObject  = 1
	typeExecute = 2
	typeDylib   = 6
	typeDsym    = 10
	typeFileset = 12
)

var kinds = map[uint32]image.Kind{
	typeObject:  image.Object,
	typeExecute: image.Executable,
	3:           image.Library, // MH_FVMLIB
	4:           image.Core,
	5:           image.Executable, // MH_PRELOAD: firmware
	typeDylib:   image.Library,
	7:           image.Library, // MH_DYLINKER
	8:           image.Library, // MH_BUNDLE
	9:           image.Library, // MH_DYLIB_STUB
	typeDsym:    image.Object,
	11:          image.Driver,     // MH_KEXT_BUNDLE
	typeFileset: image.Driver,     // a kernel and its extensions
	13:          image.Executable, // MH_GPU_EXECUTE
	14:          image.Library,    // MH_GPU_DYLIB
}

// Bits of flags in struct mach_header.
const (
	flagTwoLevel = 0x80
	flagPIE      = 0x20_0000
)

// Values of platform in struct build_version_command.
var platforms = map[uint32]string{
	1:  "darwin",
	2:  "ios",
	3:  "tvos",
	4:  "watchos",
	5:  "bridgeos",
	6:  "maccatalyst",
	7:  "ios-simulator",
	8:  "tvos-simulator",
	9:  "watchos-simulator",
	10: "driverkit",
	11: "visionos",
	12: "visionos-simulator",
	13: "firmware",
	14: "sepos",
}

// Values of tool in struct build_tool_version.
var tools = map[uint32]string{
	1:    "clang",
	2:    "swift",
	3:    "ld",
	4:    "lld",
	1024: "metal",
	1025: "airlld",
	1026: "airnt",
	1027: "airnt-plugin",
	1028: "airpack",
	1031: "gpuarchiver",
	1032: "metal-framework",
}

// version prints a version packed as xxxx.yy.zz.
func version(v uint32) string {
	if v&0xff == 0 {
		return fmt.Sprintf("%d.%d", v>>16, v>>8&0xff)
	}
	return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
}

// programCounters says where struct thread_command's registers hold the
// address to start at: by cputype and flavor, in bytes.
var programCounters = map[[2]uint32]struct {
	offset uint64
	wide   bool
}{
	{7, 1}:              {10 * 4, false}, // i386_thread_state: eip
	{7 | cpu64, 4}:      {16 * 8, true},  // x86_thread_state64: rip
	{cpuARM, 1}:         {15 * 4, false}, // arm_thread_state: pc
	{cpuARM | cpu64, 6}: {32 * 8, true},  // arm_thread_state64: pc
	{18, 1}:             {0, false},      // ppc_thread_state: srr0
	{18 | cpu64, 5}:     {0, true},       // ppc_thread_state64: srr0
}
