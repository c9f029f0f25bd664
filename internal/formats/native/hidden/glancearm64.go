package hidden

import "encoding/binary"

// arm64 goes through the instructions of a function of AArch64 by their kind.
func (g *glance) arm64(b []byte, at uint64) {
	for i := 0; i+4 <= len(b); i += 4 {
		w := binary.LittleEndian.Uint32(b[i:])
		switch w >> 24 & 0x1f {
		case 0x14, 0x15, 0x16, 0x17, 0x10, 0x11, 0x12, 0x13, 0x0a, 0x0b, 0x18, 0x19, 0x08, 0x09, 0x0d, 0x0c, 0x0e, 0x0f, 0x1b, 0x1c, 0x1d:
		default:
			continue
		}
		rt := w & 31
		switch {
		case w&0xff000010 == 0x54000000, w&0x7e000000 == 0x34000000: // B.cond, CBZ, CBNZ
			g.jump(i, i+int(signed(w, 23, 5))*4)
		case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
			g.jump(i, i+int(signed(w, 18, 5))*4)
		case w>>26 == 0b000101:
			g.jump(i, i+int(signed(w, 25, 0))*4)
		case w&0x9f000000 == 0x90000000: // ADRP
			g.pages[rt], g.paged = (at+uint64(i))&^0xfff+uint64((signed(w, 23, 5)<<2|int64(field(w, 30, 29)))<<12), g.paged|1<<rt
		case w&0x7f800000 == 0x52800000: // MOVZ
			g.values[rt], g.known = uint32(uint64(w>>5&0xffff)<<(16*(w>>21&1))), g.known|1<<rt
		case w&0x7f800000 == 0x72800000: // MOVK
			shift := 16 * (w >> 21 & 1)
			g.values[rt] = g.values[rt]&^(0xffff<<shift) | w>>5&0xffff<<shift
			if shift > 0 {
				g.constant(i, binary.LittleEndian.AppendUint32(nil, g.values[rt]))
			}
		case w&0xfec00000 == 0x38000000: // STRB
			g.wrote(i, 1)
			if g.known>>rt&1 != 0 {
				g.constant(i, []byte{byte(g.values[rt])})
			}
		case w&0xfec00000 == 0x78000000: // STRH
			if g.known>>rt&1 != 0 {
				g.constant(i, []byte{byte(g.values[rt]), byte(g.values[rt] >> 8)})
			}
		case w&0xfe400000 == 0x38400000, w&0xfe800000 == 0x38800000: // LDRB, LDRSB
			if w&0xff600c00 == 0x38400c00 || w&0xff600c00 == 0x38400400 { // that steps down
				if w>>20&1 != 0 {
					g.combines = i
				}
			}
			g.reads = i
		case w&0x3e400000 == 0x2c000000, w&0x3e400000 == 0x3c000000: // stores of vectors
			g.wrote(i, 8)
		case w&0x3e400000 == 0x2c400000, w&0x3e400000 == 0x3c400000: // loads of vectors
			g.reads = i
			if rn := w >> 5 & 31; w>>24&1 == 1 && w>>28&3 == 3 && g.paged>>rn&1 != 0 {
				size := 1 << (w>>30 | w>>23&1<<2)
				g.loaded(g.pages[rn]+uint64(w>>10&0xfff)*uint64(size), size)
			}
		case w&0x7f200000 == 0x4a000000 && w>>16&31 != w>>5&31, w&0x7f800000 == 0x52000000, // EOR
			w&0x7f200000 == 0x4a200000, w&0x7f200000 == 0x2a200000, // EON, ORN
			w&0xbf000000 == 0x0b000000, // ADD, SUB of 32 bits
			w&0xbf000000 == 0x11000000 && w>>10&0xfff != 1, w&0x7f000000 == 0x51000000,
			w&0xfffffc00 == 0xd1000400, // and those of 64 bits that step down
			w&0x7f800000 == 0x53000000 && w>>16&63 != 0, w&0x7f800000 == 0x13000000 && w>>16&63 != 0, w&0x7f800000 == 0x33000000,
			w&0x7fa00000 == 0x13800000, // EXTR
			w&0x7fe0f000 == 0x1ac02000, // shifts
			w&0x9f200400 == 0x0e200400, w&0x9f800400 == 0x0f000400, w&0x9f3e0c00 == 0x0e200800:
			g.combines = i
		}
	}
}
