package diff

// Functions pairs the functions of two binaries, for tests that know what goes
// with what.
var Functions = paired
