-- The outbox: services insert one row per event, in the transaction that makes the
-- event true. The relay reads the rows from the WAL and never updates or deletes them;
-- they stay for the retention time, as audit trail and as the source of replays.
CREATE TABLE public.outbox (
    id                 uuid        NOT NULL DEFAULT gen_random_uuid(),    -- event id, the dedupe key of consumers
    aggregate_type     text        NOT NULL,                              -- 'order'; names the topic by default
    aggregate_id       text        NOT NULL,                              -- the Kafka key
    event_type         text        NOT NULL,                              -- full name of the Avro record: 'order.created'
    payload            json,                                              -- the event as JSON, for writers in any language
    payload_avro       bytea,                                             -- or the event as Avro, with
    schema_fingerprint bytea,                                             -- SHA-256 of its writer schema's text
    headers            jsonb,                                             -- flat map of strings: Kafka headers
    topic              text,                                              -- overrides the topic
    expires_at         timestamptz,                                       -- delivered later, it goes to the dead-letter topic
    created_at         timestamptz NOT NULL DEFAULT now(),
    tx_id              xid8        NOT NULL DEFAULT pg_current_xact_id(),

    -- A unique key of a partitioned table must contain the partition key.
    PRIMARY KEY (id, created_at),

    -- Both payloads null is a tombstone. What the relay could never publish is refused
    -- here, where the writer still learns of it.
    CONSTRAINT outbox_one_payload CHECK (payload IS NULL OR payload_avro IS NULL),
    CONSTRAINT outbox_avro_has_schema CHECK ((payload_avro IS NULL) = (schema_fingerprint IS NULL)),
    CONSTRAINT outbox_headers_flat CHECK (
        headers IS NULL
        OR (jsonb_typeof(headers) = 'object' AND NOT jsonb_path_exists(headers, 'strict $.* ? (@.type() != "string")', '{}', true)))
) PARTITION BY RANGE (created_at);

-- Takes the rows of every day without a partition of its own, so that an insert never
-- fails for want of one.
CREATE TABLE public.outbox_default PARTITION OF public.outbox DEFAULT;

-- Writer schemas, put here once by each service at its start; fingerprint is the SHA-256
-- of the text.
CREATE TABLE public.outbox_schema (
    fingerprint bytea       PRIMARY KEY CHECK (octet_length(fingerprint) = 32),
    schema      text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- outbox_emit puts one JSON event into the outbox, from SQL or any language, and returns
-- its id. A NULL payload is a tombstone.
CREATE FUNCTION public.outbox_emit(aggregate_type text, aggregate_id text, event_type text, payload json, headers jsonb DEFAULT NULL)
RETURNS uuid
LANGUAGE sql
AS $$
    INSERT INTO public.outbox (aggregate_type, aggregate_id, event_type, payload, headers)
    VALUES ($1, $2, $3, $4, $5)
    RETURNING id;
$$;

-- outbox_create_partitions makes the daily partitions (UTC) from tomorrow to `days` days
-- ahead, and says for each what it did: created, present, default_has_rows, name_taken
-- or locked. Call it once a day, by any role that may EXECUTE it.
--
-- It never makes a writer fail or wait for long. A day that already has rows in the default
-- partition keeps them there. Today is left alone, unless include_today says that nobody
-- writes yet: a row on its way to the default partition would be refused the moment today's
-- partition appears. A lock not granted within two seconds is given up.
CREATE FUNCTION public.outbox_create_partitions(days int, include_today boolean DEFAULT false)
RETURNS TABLE (partition_name text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    parent      regclass := 'public.outbox';
    schema_name name;
    table_name  name;
    today       date := (now() AT TIME ZONE 'UTC')::date;
    day         date;
    day_begin   text;
    day_end     text;
BEGIN
    IF days IS NULL OR days NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'days must be between 0 and 366, not %', days;
    END IF;
    SELECT n.nspname, c.relname
      INTO schema_name, table_name
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = parent;

    FOR ahead IN (CASE WHEN include_today THEN 0 ELSE 1 END) .. days LOOP
        day := today + ahead;
        day_begin := to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00';
        day_end := to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00';
        partition_name := table_name || '_p' || to_char(day, 'YYYYMMDD');
        BEGIN
            -- One caller at a time: the second finds the partition present.
            PERFORM pg_advisory_xact_lock(hashtext('postrider partitions'), parent::oid::int);
            IF to_regclass(format('%I.%I', schema_name, partition_name)) IS NOT NULL THEN
                outcome := CASE WHEN EXISTS (
                    SELECT FROM pg_inherits
                     WHERE inhparent = parent AND inhrelid = to_regclass(format('%I.%I', schema_name, partition_name))
                ) THEN 'present' ELSE 'name_taken' END;
                RETURN NEXT;
                CONTINUE;
            END IF;
            -- ATTACH lets inserts into the other partitions go on, where CREATE … PARTITION OF
            -- would lock the whole table. It refuses if the default partition has rows of the day.
            EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING ALL)', schema_name, partition_name, parent);
            EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                           parent, schema_name, partition_name, day_begin, day_end);
            outcome := 'created';
            RETURN NEXT;
        EXCEPTION
            WHEN check_violation THEN
                outcome := 'default_has_rows';
                RETURN NEXT;
            WHEN lock_not_available THEN
                outcome := 'locked';
                RETURN NEXT;
                EXIT;
        END;
    END LOOP;
END;
$$;

-- It runs with its owner's rights: whoever may call it is granted that by name.
REVOKE ALL ON FUNCTION public.outbox_create_partitions(int, boolean) FROM PUBLIC;

SELECT partition_name, outcome FROM public.outbox_create_partitions(7, include_today => true);
