package code

// SyscallName returns the name of a system call on the system and instruction
// set of the image; empty if that is not known.
func (c *Code) SyscallName(number int) string { return syscallName(c.Image, number) }
