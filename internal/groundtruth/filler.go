package groundtruth

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// benign are functions that any program calls, by system. None of them tells of
// a behaviour.
var benign = map[string][]call{
	"linux":   {fn("malloc", "64"), fn("strlen", `"abc"`), fn("memcpy", "buf", "buf", "8"), fn("getpid"), fn("time", "0"), fn("toupper", "97"), fn("strcmp", `"a"`, `"b"`), fn("puts", `"done"`), fn("usleep", "10"), fn("abs", "-4")},
	"darwin":  {fn("malloc", "64"), fn("strlen", `"abc"`), fn("memcpy", "buf", "buf", "8"), fn("getpid"), fn("time", "0"), fn("toupper", "97"), fn("strcmp", `"a"`, `"b"`), fn("puts", `"done"`), fn("usleep", "10"), fn("abs", "-4")},
	"windows": {fn("GetLastError"), fn("GetTickCount64"), fn("Sleep", "10"), fn("GetProcessHeap"), fn("GetCurrentThreadId"), fn("lstrlenA", `"abc"`), fn("MulDiv", "3", "4", "5"), fn("SetLastError", "0"), fn("GetACP"), fn("GetSystemTimeAsFileTime", "buf")},
	"wasi":    {fn("clock_time_get", "0", "buf")},
}

// words make the texts of fillers.
var words = []string{"value", "out of range", "index", "block", "checksum", "entry", "weights", "frame", "too many items", "column", "matrix", "row", "token", "expected", "number", "segment", "state", "table", "level", "buffer", "sample", "channel", "queue", "node", "left", "right", "invalid width", "palette"}

func text(rng *rand.Rand) string {
	return words[rng.IntN(len(words))] + " " + words[rng.IntN(len(words))] + fmt.Sprintf(" %d", rng.IntN(100))
}

// filler writes function fill_i, which computes something and passes it on to
// the functions in callees.
func filler(b *strings.Builder, rng *rand.Rand, i int, callees []string, os string) {
	n := func(max int) int { return 1 + rng.IntN(max) }
	var statics, body strings.Builder
	kind := rng.IntN(11)
	switch kind {
	case 0:
		fmt.Fprintf(&body, "	for (word i = 0; i < (b & %d); i++) x = x * %d + (i ^ (x >> %d));\n", 7+n(56), 3+n(9000), n(11))
	case 1:
		fmt.Fprintf(&statics, "static const char text_%d[] = \"%s\";\n", i, text(rng))
		fmt.Fprintf(&body, "	for (const char *p = text_%d; *p; p++) x = (x ^ *p) * %d;\n", i, 0x101+2*n(4000))
	case 2:
		fmt.Fprintf(&body, "	switch (a & 7) {\n")
		for c := range 7 {
			fmt.Fprintf(&body, "	case %d: x %s %d; break;\n", c, []string{"+=", "-=", "^=", "*=", "|="}[rng.IntN(5)], n(5000))
		}
		fmt.Fprintf(&body, "	default: x = ~x;\n	}\n")
	case 3:
		fmt.Fprintf(&statics, "static const u32 table_%d[16] = {", i)
		for range 16 {
			fmt.Fprintf(&statics, "%d,", rng.IntN(1<<16))
		}
		statics.WriteString("};\n")
		fmt.Fprintf(&body, "	for (word i = 0; i < %d; i++) x = (x << 1) ^ (word)table_%d[(x ^ b) & 15];\n", n(20), i)
	case 4:
		size := 4 + rng.IntN(5)
		fmt.Fprintf(&body, "	word v[%d];\n	for (word i = 0; i < %d; i++) v[i] = (a >> i) ^ %d;\n", size, size, n(900))
		fmt.Fprintf(&body, "	for (word i = 1; i < %d; i++) for (word j = i; j > 0 && v[j - 1] > v[j]; j--) { word t = v[j]; v[j] = v[j - 1]; v[j - 1] = t; }\n	x += v[%d];\n", size, rng.IntN(size))
	case 5:
		fmt.Fprintf(&body, "	if (a > %d) x += fill_%d(a >> 1, b + 1);\n", 2+n(50), i)
	case 6:
		fmt.Fprintf(&body, "	u32 u = (u32)a;\n	while (u) { x += u & 1; u >>= %d; }\n", n(3))
	case 7:
		fmt.Fprintf(&statics, "static byte room_%d[%d];\n", i, 16+n(48))
		fmt.Fprintf(&body, "	for (word i = 0; i < %d; i++) { room_%d[i] = (byte)(a + i * %d); x += room_%d[(i * 3) & 15]; }\n", 16, i, n(60), i)
	case 8:
		fmt.Fprintf(&body, "	word m[4], k[4];\n	for (word i = 0; i < 4; i++) { m[i] = a + i * %d; k[i] = b ^ i; }\n", n(90))
		fmt.Fprintf(&body, "	x += m[0] * k[0] - m[1] * k[2];\n	x ^= m[2] * k[1] + m[3] * k[3];\n")
	case 9:
		fmt.Fprintf(&statics, "static const char digits_%d[] = \"%d%d,%d\";\n", i, n(9000), n(900), n(100))
		fmt.Fprintf(&body, "	word state = 0;\n	for (const char *p = digits_%d; *p; p++) {\n		if (*p >= '0' && *p <= '9') { state = state * 10 + (*p - '0'); } else { x += state; state = %d; }\n	}\n	x ^= state;\n", i, n(9))
	case 10:
		known := benign[os]
		c := known[rng.IntN(len(known))]
		fmt.Fprintf(&body, "	static byte buf[64];\n	if (a == %d) x += %s(", n(900), c.name)
		for j, arg := range c.args {
			if j > 0 {
				body.WriteString(", ")
			}
			body.WriteString("(word)" + arg)
		}
		body.WriteString(");\n")
	}
	b.WriteString(statics.String())
	fmt.Fprintf(b, "static NOINLINE word fill_%d(word a, word b) {\n	word x = a ^ %d;\n%s", i, n(1<<14), body.String())
	for _, c := range callees {
		if rng.IntN(3) == 0 {
			fmt.Fprintf(b, "	if ((x & %d) != %d) ", 1<<rng.IntN(6), n(60))
		} else {
			b.WriteString("	")
		}
		fmt.Fprintf(b, "x += %s(x + %d, b);\n", c, n(500))
	}
	fmt.Fprintf(b, "	return x;\n}\n")
}
