-- Who uses this Loupe, by which keys, within which limits, and what they did.

CREATE TABLE plan (
  name            TEXT PRIMARY KEY,
  minute          BIGINT NOT NULL, -- requests by one key, BinShield and CXRay; -1 is no limit
  hour            BIGINT NOT NULL, -- requests by one key, CXRay
  month           BIGINT NOT NULL, -- package scans
  targets         BIGINT NOT NULL, -- SecurityScanner
  scans           BIGINT NOT NULL, -- SecurityScanner, within scans_seconds
  scans_seconds   BIGINT NOT NULL, -- 0 is a lifetime, -1 is one for each credit
  analyses        BOOLEAN NOT NULL, -- written by a model
  monitors        BIGINT NOT NULL,
  review_tier     TEXT NOT NULL,   -- of keys for code review, where none is said
  review_month    BIGINT NOT NULL, -- code reviews by one key
  withheld        TEXT NOT NULL    -- features that the plan does not have, with spaces between them
);
INSERT INTO plan VALUES
  ('free',       60,  1000,  50,     1,  1,  0,      FALSE, 0,  'essentials',   500,  ''),
  ('payg',       60,  1000,  50,     5,  1,  -1,     TRUE,  0,  'essentials',   500,  ''),
  ('monthly',    300, 10000, 2500,   1,  5,  604800, TRUE,  3,  'professional', 2000, ''),
  ('pro',        300, 10000, 2500,   10, 50, 86400,  TRUE,  10, 'professional', 2000, ''),
  ('team',       600, 10000, 10000,  10, 50, 86400,  TRUE,  10, 'professional', 2000, ''),
  ('enterprise', -1,  -1,    100000, -1, -1, 86400,  TRUE,  -1, 'enterprise',   -1,   '');

CREATE TABLE org (
  id         TEXT PRIMARY KEY,
  number     BIGINT NOT NULL UNIQUE,
  name       TEXT NOT NULL,
  slug       TEXT NOT NULL UNIQUE,
  plan       TEXT NOT NULL REFERENCES plan (name),
  created_at BIGINT NOT NULL
);

CREATE TABLE person (
  id         TEXT PRIMARY KEY,
  email      TEXT NOT NULL UNIQUE, -- in small letters
  name       TEXT NOT NULL,
  password   TEXT NOT NULL,        -- argon2id in PHC string format; empty if there is none
  staff      BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL
);

CREATE TABLE member (
  org_id     TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  person_id  TEXT NOT NULL REFERENCES person (id) ON DELETE CASCADE,
  role       TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, person_id)
);
CREATE INDEX member_person ON member (person_id);

CREATE TABLE api_key (
  id            TEXT PRIMARY KEY,
  org_id        TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  brand         TEXT NOT NULL,        -- binshield, securityscanner, cxray, bedefended, breachlens
  label         TEXT NOT NULL,
  prefix        TEXT NOT NULL,        -- the first 12 letters
  last4         TEXT NOT NULL,
  sha256        BYTEA NOT NULL UNIQUE,
  scopes        TEXT NOT NULL,        -- with spaces between them
  role          TEXT NOT NULL,
  repo_pattern  TEXT NOT NULL,
  tier          TEXT NOT NULL,
  monthly_limit BIGINT NOT NULL,      -- of code reviews; -1 is no limit
  created_by    TEXT NOT NULL,        -- a person, a key or "command line"
  created_at    BIGINT NOT NULL,
  expires_at    BIGINT,
  revoked_at    BIGINT,
  last_used_at  BIGINT
);
CREATE INDEX api_key_org ON api_key (org_id, created_at, id) WHERE revoked_at IS NULL;

CREATE TABLE audit (
  id         TEXT PRIMARY KEY,
  org_id     TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  actor      TEXT NOT NULL, -- a person, a key, "command line" or "stripe"
  action     TEXT NOT NULL, -- "key.create"
  object     TEXT NOT NULL, -- the id of what was changed
  detail     TEXT NOT NULL, -- JSON, never with a secret
  request_id TEXT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX audit_org ON audit (org_id, created_at, id);

-- Use of what a plan limits, by calendar month in UTC ("2026-03").
CREATE TABLE monthly_use (
  org_id TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  meter  TEXT NOT NULL, -- "package-scans"
  month  TEXT NOT NULL,
  used   BIGINT NOT NULL,
  PRIMARY KEY (org_id, meter, month)
);

-- Requests in one window of time, by one key or address, over all servers.
CREATE TABLE request_window (
  subject TEXT NOT NULL,
  starts  BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  PRIMARY KEY (subject, starts)
);
CREATE INDEX request_window_starts ON request_window (starts);

-- Answers to requests that carried an Idempotency-Key.
CREATE TABLE idempotency (
  org_id     TEXT NOT NULL REFERENCES org (id) ON DELETE CASCADE,
  route      TEXT NOT NULL,
  name       TEXT NOT NULL,   -- the header
  body       BYTEA NOT NULL,  -- SHA-256 of the request's body
  status     BIGINT NOT NULL, -- of the answer; 0 while there is none
  media_type TEXT NOT NULL,
  answer     BYTEA,           -- with its secrets masked
  created_at BIGINT NOT NULL,
  PRIMARY KEY (org_id, route, name)
);
CREATE INDEX idempotency_created ON idempotency (created_at);

-- Numbers that are given out one after the other, and texts that all servers share.
CREATE TABLE counter (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counter VALUES ('org', 0), ('package', 0);
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
