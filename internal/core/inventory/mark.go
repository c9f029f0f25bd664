package inventory

// Marks are what is kept of the functions of a binary to find them again in
// another version of it. Only a comparison asks for them.
type Marks struct {
	Functions []Mark   // by address
	Imports   []string // names, sorted, to which Mark.Imports points
}

// A Mark is what is kept of one function. Nothing in it depends on where a
// linker put the function, or what it refers to.
type Mark struct {
	Name    string   // from a symbol; empty if there is none
	Addr    uint64   // virtual
	Size    uint64   // in bytes
	Body    uint64   // of its instructions, less what a linker fills in; 0 if they could not be read
	Short   bool     // it is so short that others have the same body by chance
	Imports []int32  // that it calls or names, sorted, each once
	Texts   []uint32 // hashes of the texts that it names, sorted, each once
	Calls   []int32  // indexes of the functions that it calls or names, in order, each once
	Known   bool     // it belongs to a library that many programs carry
}
