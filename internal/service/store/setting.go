package store

import "context"

// Setting returns a text that all servers share, or found is false.
func (r reads) Setting(ctx context.Context, name string) (value string, found bool, err error) {
	err = r.db.NewRaw("SELECT value FROM setting WHERE name = ?", name).Scan(ctx, &value)
	if none(err) {
		return "", false, nil
	}
	return value, err == nil, failed(err)
}

// SettleSetting gives a text that all servers share its first value, and
// returns the one that it has: of several servers that start at once, one wins.
func (tx *Tx) SettleSetting(ctx context.Context, name, first string) (value string, err error) {
	err = tx.db.NewRaw(`INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = setting.value RETURNING value`,
		name, first).Scan(ctx, &value)
	return value, failed(err)
}
