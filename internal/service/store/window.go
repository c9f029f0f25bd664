package store

import "context"

// LeaseWindow takes up to n requests out of a window of time, which begins at
// starts and holds limit, for a subject such as a key or an address. It returns
// how many it got, and how many are left for everybody. Servers take some at
// once and count them down by themselves.
func (s *Store) LeaseWindow(ctx context.Context, subject string, starts Time, n, limit int64) (got, left int64, err error) {
	var used int64
	err = s.write.NewRaw(`INSERT INTO request_window (subject, starts, used) VALUES (?, ?, ?)
ON CONFLICT (subject, starts) DO UPDATE SET used = request_window.used + excluded.used RETURNING used`, subject, starts, n).Scan(ctx, &used)
	if err != nil {
		return 0, 0, failed(err)
	}
	return min(n, max(0, limit-(used-n))), max(0, limit-used), nil
}

// DeleteWindows forgets windows that began before a time, and returns how many.
func (s *Store) DeleteWindows(ctx context.Context, before Time) (int64, error) {
	return count(s.write.NewRaw("DELETE FROM request_window WHERE starts < ?", before).Exec(ctx))
}
