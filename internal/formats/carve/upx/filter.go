package upx

import (
	"encoding/binary"
	"fmt"
)

// Filters make calls of one function look alike wherever they are, by storing
// where a call goes to instead of how far away that is.

// unfilter undoes a filter on code. base is added to addresses in it; cto marks
// calls that were changed, for filters that change only some.
func unfilter(id, cto byte, code []byte, base uint32) error {
	switch {
	case id == 0:
	case id >= 0x11 && id <= 0x19:
		every(id, code, base)
	case id >= 0x24 && id <= 0x26, id == 0x36, id == 0x46, id == 0x49:
		marked(id, cto, code, base)
	case id == 0x50, id == 0x51, id == 0x52:
		arm(id, code, base)
	default:
		return fmt.Errorf("UPX: filter 0x%02x is not known", id)
	}
	return nil
}

// opcodes tells by the last digit of a filter which of E8 (call) and E9 (jmp)
// it changes.
func opcodes(id byte) (call, jump bool) {
	n := (id & 15) % 3
	return n == 1 || n == 0, n == 2 || n == 0
}

// every undoes filters that change every call.
func every(id byte, code []byte, base uint32) {
	call, jump := opcodes(id)
	var order, stored binary.ByteOrder = binary.LittleEndian, binary.LittleEndian
	switch n := id & 15; {
	case n >= 7:
		order = binary.BigEndian
	case n >= 4:
		stored = binary.BigEndian
	}
	for at := 0; at+5 < len(code); at++ {
		if c := code[at]; c == 0xe8 && call || c == 0xe9 && jump {
			word := code[at+1 : at+5]
			order.PutUint32(word, stored.Uint32(word)-uint32(at+1)-base)
			at += 4
		}
	}
}

// marked undoes filters that change calls within the code, whose addresses
// then begin with the byte cto. 0x49 changes conditional jumps (0F 8x) too.
func marked(id, cto byte, code []byte, base uint32) {
	call, jump := true, true
	if id < 0x30 {
		call, jump = opcodes(id - 3) // 4, 5, 6 stand for 1, 2, 3
	}
	last := 0
	for at := 0; at+5 < len(code); at++ {
		c := code[at]
		hit := c == 0xe8 && call || c == 0xe9 && jump
		if !hit && id == 0x49 && at > 0 && at != last {
			hit = code[at-1] == 0x0f && c >= 0x80 && c <= 0x8f
		}
		if !hit || code[at+1] != cto {
			continue
		}
		word := code[at+1 : at+5]
		binary.LittleEndian.PutUint32(word, binary.BigEndian.Uint32(word)-uint32(at+1)-base-uint32(cto)<<24)
		at += 4
		last = at + 1
	}
}

// arm undoes filters on BL of 32-bit ARM, little- and big-endian, and on B and
// BL of 64-bit ARM, whose addresses count words.
func arm(id byte, code []byte, base uint32) {
	for at := 0; at+4 < len(code); at += 4 {
		word := code[at : at+4]
		var order binary.ByteOrder = binary.LittleEndian
		mask := uint32(1<<24 - 1)
		switch id {
		case 0x50:
			if word[3]&15 != 0x0b {
				continue
			}
		case 0x51:
			if word[0]&15 != 0x0b {
				continue
			}
			order = binary.BigEndian
		default:
			if word[3]&0x7c != 0x14 {
				continue
			}
			mask = 1<<26 - 1
		}
		v := order.Uint32(word)
		order.PutUint32(word, v&^mask|(v-uint32(at/4)-base)&mask)
	}
}
