package jobs

import "github.com/loupe-sec/loupe/internal/service/store"

// A dialect is how an engine says what River's tables need, which use the types
// of their engine.
type dialect struct {
	now    string // the time of the database
	at     string // a time, of milliseconds since 1970
	epoch  string // milliseconds since 1970, of a column
	owner  string // the process that took a job last
	record string // the errors of a job and one more, of JSON
	state  string // the type of a state
	last   string // the text of the newest error
}

var dialects = map[store.Engine]dialect{
	store.SQLite: {
		now:    "datetime('now', 'subsec')",
		at:     "strftime('%Y-%m-%d %H:%M:%f', ? / 1000.0, 'unixepoch')",
		epoch:  "CAST(unixepoch(%s, 'subsec') * 1000 AS INTEGER)",
		owner:  "(river_job.attempted_by ->> '$[#-1]')",
		record: "jsonb_insert(coalesce(errors, jsonb('[]')), '$[#]', jsonb(?))",
		state:  "TEXT",
		last:   "coalesce(errors ->> '$[#-1].error', '')",
	},
	store.Postgres: {
		now:    "now()",
		at:     "to_timestamp(?::bigint / 1000.0)",
		epoch:  "(extract(epoch FROM %s) * 1000)::bigint",
		owner:  "river_job.attempted_by[array_upper(river_job.attempted_by, 1)]",
		record: "array_append(errors, ?::jsonb)",
		state:  "river_job_state",
		last:   "coalesce(errors[array_upper(errors, 1)] ->> 'error', '')",
	},
}

// flagged says that somebody asked for a running job to be cancelled.
const flagged = "(metadata ->> 'cancel_attempted_at') IS NOT NULL"
