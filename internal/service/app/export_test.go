package app

// What a sandboxed process is asked and tells.
type (
	Inspection = inspection
	Message    = message
	Value      = value
	Counted    = counted
)
