package groundtruth

import (
	"encoding/base64"
	"slices"
)

// A disguise hides a text until the program takes it off.
type disguise struct {
	name string
	wear func(text []byte) []byte
	c    string // of a function that undoes it: char *out, const byte *in, word n bytes of in
}

const (
	singleKey = 0x5a
	stepKey   = 7
)

var longKey = []byte{0x13, 0xc7, 0x6d, 0x52, 0xe9}

var disguises = []disguise{
	{"xor", func(t []byte) []byte { return each(t, func(i int, c byte) byte { return c ^ singleKey }) },
		"	for (word i = 0; i < n; i++) out[i] = (char)(in[i] ^ 0x5a);\n	out[n] = 0;\n"},
	{"xor with a long key", func(t []byte) []byte {
		return each(t, func(i int, c byte) byte { return c ^ longKey[i%len(longKey)] })
	}, "	static const byte key[5] = {0x13, 0xc7, 0x6d, 0x52, 0xe9};\n	word k = 0;\n	for (word i = 0; i < n; i++) { out[i] = (char)(in[i] ^ key[k]); if (++k == 5) k = 0; }\n	out[n] = 0;\n"},
	{"rolling xor", func(t []byte) []byte {
		return each(t, func(i int, c byte) byte { return c ^ byte(singleKey+i) })
	}, "	for (word i = 0; i < n; i++) out[i] = (char)(in[i] ^ (byte)(0x5a + i));\n	out[n] = 0;\n"},
	{"added", func(t []byte) []byte { return each(t, func(i int, c byte) byte { return c + stepKey }) },
		"	for (word i = 0; i < n; i++) out[i] = (char)(in[i] - 7);\n	out[n] = 0;\n"},
	{"reversed", func(t []byte) []byte {
		t = slices.Clone(t)
		slices.Reverse(t)
		return t
	}, "	for (word i = 0; i < n; i++) out[i] = (char)in[n - 1 - i];\n	out[n] = 0;\n"},
	{"base64", func(t []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(t)) },
		`	u32 bits = 0; word have = 0, o = 0;
	for (word i = 0; i < n; i++) {
		byte c = in[i]; u32 v;
		if (c >= 'A' && c <= 'Z') v = c - 'A'; else if (c >= 'a' && c <= 'z') v = c - 'a' + 26; else if (c >= '0' && c <= '9') v = c - '0' + 52;
		else if (c == '+') v = 62; else if (c == '/') v = 63; else break;
		bits = bits << 6 | v; have += 6;
		if (have >= 8) { have -= 8; out[o++] = (char)(bits >> have); }
	}
	out[o] = 0;
`},
	{name: "on the stack"}, // put together by the plant itself, byte by byte
}

func each(text []byte, f func(i int, c byte) byte) []byte {
	out := make([]byte, len(text))
	for i, c := range text {
		out[i] = f(i, c)
	}
	return out
}
