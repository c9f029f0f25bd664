package store

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// A Time is a moment, kept as milliseconds since 1970 in a BIGINT column of both
// engines. The zero time is kept as NULL.
type Time struct{ time.Time }

// At returns t as it is kept: in UTC, to the millisecond.
func At(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t.UTC().Truncate(time.Millisecond)}
}

// Value implements driver.Valuer.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixMilli(), nil
}

// Scan implements sql.Scanner.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = Time{}
	case int64:
		*t = Time{time.UnixMilli(v).UTC()}
	default:
		return fmt.Errorf("store: a time is kept as a %T", src)
	}
	return nil
}
