-- What is known of packages, and the scans that found it out.

-- An analysis is of nobody's: whoever asks for a package that was looked at gets it.
CREATE TABLE analysis (
  id           TEXT PRIMARY KEY,
  ecosystem    TEXT NOT NULL,
  name         TEXT NOT NULL,
  version      TEXT NOT NULL,
  sort_version BYTEA NOT NULL,   -- compares as versions of the ecosystem do
  rules        TEXT NOT NULL,    -- digest of the rules, with the version of the program
  newest       BOOLEAN NOT NULL, -- of this version; older ones stay for the scans that point to them
  risk_score   BIGINT NOT NULL,
  risk_level   TEXT NOT NULL,
  summary      TEXT NOT NULL,
  binary_count BIGINT NOT NULL,
  total_size   BIGINT NOT NULL,  -- of the binaries, in bytes
  source_match TEXT NOT NULL,
  model        TEXT NOT NULL,    -- what wrote the texts
  created_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX analysis_version ON analysis (ecosystem, name, version) WHERE newest;
CREATE INDEX analysis_order ON analysis (ecosystem, name, sort_version, id) WHERE newest;

-- The whole of it, by a form of its own, packed.
CREATE TABLE analysis_document (
  analysis_id TEXT NOT NULL REFERENCES analysis (id) ON DELETE CASCADE,
  kind        TEXT NOT NULL, -- "report", "marks"
  data        BYTEA NOT NULL,
  PRIMARY KEY (analysis_id, kind)
);

-- The highest version of each package that was looked at. seq rises with each
-- change, in the order in which changes are committed.
CREATE TABLE package (
  ecosystem    TEXT NOT NULL,
  name         TEXT NOT NULL,
  analysis_id  TEXT NOT NULL REFERENCES analysis (id),
  version      TEXT NOT NULL,
  sort_version BYTEA NOT NULL,
  risk_score   BIGINT NOT NULL,
  risk_level   TEXT NOT NULL,
  summary      TEXT NOT NULL,
  binary_count BIGINT NOT NULL,
  seq          BIGINT NOT NULL,
  PRIMARY KEY (ecosystem, name)
);
CREATE UNIQUE INDEX package_seq ON package (seq);

CREATE TABLE scan (
  id            TEXT PRIMARY KEY,
  org_id        TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  kind          TEXT NOT NULL,    -- "package"
  ecosystem     TEXT NOT NULL,
  name          TEXT NOT NULL,
  version       TEXT NOT NULL,
  request       TEXT NOT NULL,    -- JSON of what was asked for
  fresh         BOOLEAN NOT NULL, -- look again, whatever is known
  requested_by  TEXT NOT NULL,
  status        TEXT NOT NULL,    -- queued, running, complete, failed, cancelled
  stage         TEXT NOT NULL,
  job_id        BIGINT,
  analysis_id   TEXT REFERENCES analysis (id),
  cache_hit     BOOLEAN NOT NULL,
  error         TEXT NOT NULL,
  requested_at  BIGINT NOT NULL,
  started_at    BIGINT,
  completed_at  BIGINT,
  cancelled_at  BIGINT            -- somebody asked for its end
);
-- One at a time for the same request of an organisation.
CREATE UNIQUE INDEX scan_open ON scan (org_id, kind, ecosystem, name, version) WHERE status IN ('queued', 'running');
CREATE UNIQUE INDEX scan_unended ON scan (id) WHERE status IN ('queued', 'running');
CREATE INDEX scan_org ON scan (org_id, requested_at, id);
CREATE INDEX scan_analysis ON scan (analysis_id);
