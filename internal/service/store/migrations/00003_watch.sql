-- What organisations watch, and what they were told.

CREATE TABLE repo (
  id                  TEXT PRIMARY KEY,
  org_id              TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  github_repo         TEXT NOT NULL, -- as it was written
  folded              TEXT NOT NULL, -- in small letters
  native_dependencies BIGINT NOT NULL,
  risk_score          BIGINT NOT NULL,
  last_scan_at        BIGINT,
  created_at          BIGINT NOT NULL,
  UNIQUE (org_id, folded)
);
CREATE INDEX repo_org ON repo (org_id, created_at, id);

CREATE TABLE watchlist (
  id            TEXT PRIMARY KEY,
  org_id        TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  name          TEXT NOT NULL,
  channel       TEXT NOT NULL, -- email, slack, webhook
  destination   TEXT NOT NULL,
  secret        TEXT NOT NULL, -- with which webhooks are signed
  package_count BIGINT NOT NULL,
  created_at    BIGINT NOT NULL
);
CREATE INDEX watchlist_org ON watchlist (org_id, created_at, id);

CREATE TABLE watch (
  id           TEXT PRIMARY KEY,
  org_id       TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  watchlist_id TEXT NOT NULL REFERENCES watchlist (id) ON DELETE CASCADE,
  ecosystem    TEXT NOT NULL,
  name         TEXT NOT NULL,
  version      TEXT NOT NULL, -- empty for any
  created_at   BIGINT NOT NULL,
  UNIQUE (watchlist_id, ecosystem, name, version)
);
CREATE INDEX watch_package ON watch (ecosystem, name);
CREATE INDEX watch_list ON watch (org_id, watchlist_id, created_at, id);

-- When the registry is asked next for a package that somebody watches.
CREATE TABLE watched_package (
  ecosystem TEXT NOT NULL,
  name      TEXT NOT NULL,
  version   TEXT NOT NULL, -- the newest that was seen; empty before the first time
  etag      TEXT NOT NULL,
  error     TEXT NOT NULL, -- of the last time; empty if it went well
  asked_at  BIGINT,
  next_at   BIGINT NOT NULL,
  PRIMARY KEY (ecosystem, name)
);
CREATE INDEX watched_package_next ON watched_package (next_at);

-- One for each watchlist and each analysis that differs from the one before.
CREATE TABLE alert (
  id           TEXT PRIMARY KEY,
  org_id       TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  watchlist_id TEXT NOT NULL REFERENCES watchlist (id) ON DELETE CASCADE,
  analysis_id  TEXT NOT NULL REFERENCES analysis (id) ON DELETE CASCADE,
  body         TEXT NOT NULL, -- JSON
  created_at   BIGINT NOT NULL,
  UNIQUE (watchlist_id, analysis_id)
);
CREATE INDEX alert_org ON alert (org_id, created_at, id);

-- Messages to the outside. Their id is the same at every attempt.
CREATE TABLE delivery (
  id              TEXT PRIMARY KEY,
  org_id          TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  source_id       TEXT NOT NULL, -- the watchlist or webhook for which it is
  event           TEXT NOT NULL, -- "package.changed"
  channel         TEXT NOT NULL,
  destination     TEXT NOT NULL,
  secret          TEXT NOT NULL,
  subject         TEXT NOT NULL, -- of a mail
  body            TEXT NOT NULL,
  status          TEXT NOT NULL, -- pending, delivered, dead
  attempts        BIGINT NOT NULL,
  response_status BIGINT NOT NULL, -- of the last attempt; 0 without an answer
  error           TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  next_at         BIGINT,
  delivered_at    BIGINT
);
CREATE INDEX delivery_due ON delivery (next_at) WHERE status = 'pending';
CREATE INDEX delivery_source ON delivery (org_id, source_id, created_at, id);
