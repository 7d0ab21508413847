-- Schemas by ID. A row stays as long as a version of some subject has it.
CREATE TABLE schemas (
    id         integer PRIMARY KEY,
    sha256     bytea NOT NULL UNIQUE,
    schema     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE versions (
    subject    text NOT NULL,
    version    integer NOT NULL,
    schema_id  integer NOT NULL REFERENCES schemas,
    deleted    boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (subject, version)
);
CREATE INDEX ON versions (schema_id);

-- Compatibility levels. The empty subject has the global one.
CREATE TABLE levels (
    subject text PRIMARY KEY,
    level   text NOT NULL
);

-- The one row that every change of versions locks first. A sequence would leave gaps where
-- a transaction rolls back, and the highest ID in use may be that of a deleted schema.
CREATE TABLE state (
    last_id integer NOT NULL
);
CREATE UNIQUE INDEX ON state ((true));
INSERT INTO state VALUES (0);
