package skeleton

import "github.com/loupe-sec/loupe/internal/formats/native/code"

// Telling returns the function that says most about a binary when nothing else
// is known of it: what a host calls when it loads an add-on; else, of the
// exports, the one that uses most imports; else the main function; else the
// function with most imports of those that are reached. It returns -1 if there
// are no functions.
func Telling(c *code.Code) int {
	export, registration, entry := -1, -1, -1
	for _, root := range c.Roots() {
		fn := at(c, root.Addr)
		if fn < 0 {
			continue
		}
		switch root.Kind {
		case code.Registration:
			if registration < 0 || uses(c, fn) > uses(c, registration) {
				registration = fn
			}
		case code.Exported:
			if export < 0 || uses(c, fn) > uses(c, export) {
				export = fn
			}
		case code.Entry:
			entry = mainOf(c, fn)
		}
	}
	switch {
	case registration >= 0:
		return registration
	case export >= 0:
		return export
	case entry >= 0:
		return entry
	}
	return busiest(c)
}

// at returns the function that starts at an address, or -1.
func at(c *code.Code, addr uint64) int {
	if fn := c.Func(addr); fn >= 0 && c.Functions[fn].Addr == addr {
		return fn
	}
	return -1
}

// uses returns how many places of a function use imports, and, where that is the
// same, it is more the more the function calls.
func uses(c *code.Code, fn int) int {
	n := 0
	for _, r := range c.From(fn) {
		switch {
		case r.Import >= 0:
			n += 1 << 16
		case r.Kind == code.Call || r.Kind == code.Jump:
			n++
		}
	}
	return n
}

// mainOf returns the function that start-up code hands to the C library, or -1
// if the code at the entry does nothing of the kind.
func mainOf(c *code.Code, entry int) int {
	for _, r := range c.From(entry) {
		if r.Kind == code.Taken && r.Import < 0 {
			if fn := at(c, r.Target); fn >= 0 {
				return fn
			}
		}
	}
	return -1
}

// busiest returns the function with most uses of imports, of those that are
// reached if there are any, and the first of equals.
func busiest(c *code.Code) int {
	best, most := -1, -1
	for _, all := range []bool{false, true} {
		for i := range c.Functions {
			if !all {
				if _, ok := c.Reached(i); !ok {
					continue
				}
			}
			if n := uses(c, i); n > most {
				best, most = i, n
			}
		}
		if most > 0 {
			return best
		}
	}
	return best
}
