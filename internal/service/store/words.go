package store

import (
	"database/sql/driver"
	"fmt"
	"strings"
)

// Words are kept as one text with spaces between them.
type Words []string

// Value implements driver.Valuer.
func (w Words) Value() (driver.Value, error) { return strings.Join(w, " "), nil }

// Scan implements sql.Scanner.
func (w *Words) Scan(src any) error {
	switch v := src.(type) {
	case string:
		*w = strings.Fields(v)
	case []byte:
		*w = strings.Fields(string(v))
	default:
		return fmt.Errorf("store: words are kept as a %T", src)
	}
	return nil
}
