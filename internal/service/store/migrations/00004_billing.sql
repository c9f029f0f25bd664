-- What organisations pay for.

CREATE TABLE subscription (
  id                   TEXT PRIMARY KEY,
  org_id               TEXT NOT NULL UNIQUE REFERENCES org (id) ON DELETE CASCADE,
  provider             TEXT NOT NULL, -- manual, stripe
  plan                 TEXT NOT NULL REFERENCES plan (name),
  status               TEXT NOT NULL,
  customer             TEXT NOT NULL, -- the provider's name for the organisation
  provider_id          TEXT NOT NULL, -- the provider's name for the subscription; empty until there is one
  cancel_at_period_end BOOLEAN NOT NULL,
  current_period_end   BIGINT,
  event_at             BIGINT,        -- of the newest event of the provider that was obeyed
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL
);
CREATE INDEX subscription_customer ON subscription (customer) WHERE customer <> '';

CREATE TABLE billing_event (
  id          TEXT PRIMARY KEY, -- the provider's
  kind        TEXT NOT NULL,
  created_at  BIGINT NOT NULL,
  received_at BIGINT NOT NULL
);
