-- What the job queue keeps beside the tables of its library.

CREATE TABLE job_worker (
  id    TEXT PRIMARY KEY,
  place TEXT NOT NULL,  -- host and process, for people
  beats BIGINT NOT NULL -- grows for as long as the process lives
);

CREATE TABLE job_period (
  kind   TEXT PRIMARY KEY,
  period BIGINT NOT NULL -- number of the newest that was enqueued, since 1970
);
