// Package fault classifies errors, so that code far from a failure can choose
// an exit code, a status, a retry or a message without knowing where it came
// from. A fault is the only error whose text a user sees.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// A Kind is a class of error. Each face of the program maps kinds to its own
// status codes in one place.
type Kind uint8

// The kinds. Internal is the zero value: anything that nobody classified.
const (
	Internal Kind = iota
	Invalid
	Unauthenticated
	Forbidden
	NotFound
	Conflict
	Exhausted // a plan's limit
	Throttled // a rate limit
	Unavailable
	Corrupt     // bytes that are not what they were promised to be
	Unsupported // this installation has no means for it
)

var names = [...]string{
	"internal error", "invalid", "unauthenticated", "forbidden", "not found",
	"conflict", "exhausted", "throttled", "unavailable", "corrupt", "unsupported",
}

func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// An Error is an error that may be shown to the user.
type Error struct {
	Kind    Kind
	Message string // what happened: a phrase without a full stop
	Help    string // what to do about it: a phrase without a full stop; may be empty
	Err     error  // for the log only

	Field string // of a request that is wrong; empty if it is none
	Value any    // of the field, which is shown to whoever sent it

	Wait time.Duration // before asking again makes sense; 0 if it is not a matter of time
}

// Error returns the message, the help, and not the cause: what is not written
// for the user stays in the log.
func (e *Error) Error() string {
	if e.Help != "" {
		return e.Message + "; " + e.Help
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// New returns an error of kind k with a message for the user.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// Because records the cause, for the log.
func (e *Error) Because(err error) *Error { e.Err = err; return e }

// In names the field of a request that is wrong, and its value.
func (e *Error) In(field string, value any) *Error {
	e.Field, e.Value = field, value
	return e
}

// After says how long to wait before asking again.
func (e *Error) After(wait time.Duration) *Error { e.Wait = wait; return e }

// Try adds what the user can do about it.
func (e *Error) Try(format string, args ...any) *Error {
	e.Help = fmt.Sprintf(format, args...)
	return e
}

// Of returns the kind of err and the text that a user may see. An error that
// nobody classified is Internal, and its text stays in the log.
func Of(err error) (Kind, string) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind, e.Error()
	}
	return Internal, names[Internal]
}

// Is reports whether err is a fault of kind k.
func Is(err error, k Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == k
}
