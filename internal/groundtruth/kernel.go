package groundtruth

// numbers are those of the system calls that plants make, by "system/machine"
// and name, from the kernels' public headers.
var numbers = map[string]map[string]int{
	"linux/x86_64": {
		"read": 0, "write": 1, "open": 2, "getpid": 39, "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "bind": 49, "listen": 50,
		"execve": 59, "wait4": 61, "kill": 62, "rename": 82, "unlink": 87, "chmod": 90, "ptrace": 101, "getdents64": 217, "openat": 257,
		"unlinkat": 263, "fchmodat": 268, "accept4": 288, "process_vm_writev": 311, "renameat2": 316, "memfd_create": 319, "execveat": 322,
	},
	"linux/x86": {
		"read": 3, "write": 4, "open": 5, "unlink": 10, "execve": 11, "chmod": 15, "getpid": 20, "ptrace": 26, "kill": 37, "rename": 38,
		"socketcall": 102, "wait4": 114, "getdents64": 220, "openat": 295, "unlinkat": 301, "fchmodat": 306, "process_vm_writev": 348,
		"renameat2": 353, "memfd_create": 356, "execveat": 358, "socket": 359, "bind": 361, "connect": 362, "listen": 363, "accept4": 364, "sendto": 369,
	},
	"linux/arm": {
		"read": 3, "write": 4, "open": 5, "unlink": 10, "execve": 11, "chmod": 15, "getpid": 20, "ptrace": 26, "kill": 37, "rename": 38,
		"wait4": 114, "getdents64": 217, "socket": 281, "bind": 282, "connect": 283, "listen": 284, "accept": 285, "sendto": 290,
		"openat": 322, "unlinkat": 328, "fchmodat": 333, "accept4": 366, "process_vm_writev": 377, "renameat2": 382, "memfd_create": 385, "execveat": 387,
	},
	"linux/aarch64":  generic,
	"linux/riscv64":  generic,
	"darwin/x86_64":  darwinNumbers,
	"darwin/aarch64": darwinNumbers,
}

// generic are the numbers of the machines that came to Linux last.
var generic = map[string]int{
	"unlinkat": 35, "fchmodat": 53, "openat": 56, "getdents64": 61, "read": 63, "write": 64, "ptrace": 117, "kill": 129, "getpid": 172,
	"socket": 198, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "sendto": 206, "execve": 221, "accept4": 242, "wait4": 260,
	"process_vm_writev": 271, "renameat2": 276, "memfd_create": 279, "execveat": 281,
}

var darwinNumbers = map[string]int{
	"read": 3, "write": 4, "open": 5, "unlink": 10, "chmod": 15, "getpid": 20, "ptrace": 26, "accept": 30, "kill": 37, "execve": 59,
	"socket": 97, "connect": 98, "bind": 104, "listen": 106, "rename": 128, "sendto": 133,
}

// older are calls that do the same on the machines that have them: the first
// argument, a folder, is left out.
var older = map[string]string{"openat": "open", "unlinkat": "unlink", "fchmodat": "chmod"}

// socketCalls are the first argument of socketcall, for which x86 had no system
// calls of their own until Linux 4.3.
var socketCalls = map[string]int{"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "sendto": 11}

// enter is the C of a function that calls the kernel, by "system/machine": the
// number and up to six arguments.
var enter = map[string]string{
	"linux/x86_64": `	word r;
	register word r10 __asm__("r10") = d; register word r8 __asm__("r8") = e; register word r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;`,
	"linux/x86": `	word r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return r;`,
	"linux/aarch64": `	register word x8 __asm__("x8") = n; register word x0 __asm__("x0") = a; register word x1 __asm__("x1") = b; register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d; register word x4 __asm__("x4") = e; register word x5 __asm__("x5") = f;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;`,
	"linux/arm": `	register word r7 __asm__("r7") = n; register word r0 __asm__("r0") = a; register word r1 __asm__("r1") = b; register word r2 __asm__("r2") = c;
	register word r3 __asm__("r3") = d; register word r4 __asm__("r4") = e; register word r5 __asm__("r5") = f;
	__asm__ volatile("svc #0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
	return r0;`,
	"linux/riscv64": `	register word a7 __asm__("a7") = n; register word a0 __asm__("a0") = a; register word a1 __asm__("a1") = b; register word a2 __asm__("a2") = c;
	register word a3 __asm__("a3") = d; register word a4 __asm__("a4") = e; register word a5 __asm__("a5") = f;
	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
	return a0;`,
	"darwin/x86_64": `	word r;
	register word r10 __asm__("r10") = d; register word r8 __asm__("r8") = e; register word r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n + 0x2000000), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;`,
	"darwin/aarch64": `	register word x16 __asm__("x16") = n; register word x0 __asm__("x0") = a; register word x1 __asm__("x1") = b; register word x2 __asm__("x2") = c;
	register word x3 __asm__("x3") = d; register word x4 __asm__("x4") = e; register word x5 __asm__("x5") = f;
	__asm__ volatile("svc #0x80" : "+r"(x0) : "r"(x16), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;`,
}
