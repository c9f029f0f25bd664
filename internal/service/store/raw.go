package store

import "github.com/uptrace/bun"

// Raw is the door for a package that keeps tables of its own beside those of
// the store: the job queue. On a [Store] it reads, on a [Tx] it is part of the
// transaction.
func (r reads) Raw() bun.IDB { return r.db }
