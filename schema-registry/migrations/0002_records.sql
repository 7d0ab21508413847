-- What the registry knows, as records: see record.go for the keys. A record without a value
-- was removed; it stays, so that other replicas learn of it. seq rises with every change.
CREATE TABLE records (
    key   text PRIMARY KEY,
    value json,
    seq   bigint NOT NULL
);
CREATE UNIQUE INDEX ON records (seq);

INSERT INTO records
SELECT key, value, row_number() OVER (ORDER BY kind, key)
FROM (
    SELECT 1 AS kind, 'schema/' || id || '/.' AS key, json_build_object('text', schema) AS value FROM schemas
    UNION ALL
    SELECT 2, 'version/' || version || '/' || subject,
           json_build_object('id', schema_id, 'deleted', deleted, 'time', (extract(epoch FROM created_at) * 1000)::bigint) FROM versions
    UNION ALL
    SELECT 3, 'config/' || subject, json_build_object('compatibilityLevel', level) FROM levels
    UNION ALL
    SELECT 4, 'context/.', json_build_object('lastId', last_id) FROM state WHERE last_id > 0
) AS facts;

-- The one row that every change locks first, so that changes come one after the other.
ALTER TABLE state ADD COLUMN last_seq bigint NOT NULL DEFAULT 0;
UPDATE state SET last_seq = (SELECT count(*) FROM records);
ALTER TABLE state DROP COLUMN last_id;

DROP TABLE versions, schemas, levels;
