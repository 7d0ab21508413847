-- The outbox: services insert one row per event, in the transaction that makes the
-- event true. The relay reads the rows from the WAL and never updates or deletes them one
-- by one; they stay for the retention time, as audit trail and as the source of replays,
-- and then go with the partition of their day.
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
-- or locked. The relay calls it; so may any role that is granted EXECUTE, once a day.
--
-- It never makes a writer fail, and waits for no lock that a writer would have to wait
-- behind. A day that already has rows in the default partition keeps them there. Today is
-- left alone, unless include_today says that nobody writes yet: a row on its way to the
-- default partition would be refused the moment today's partition appears.
CREATE FUNCTION public.outbox_create_partitions(days int, include_today boolean DEFAULT false)
RETURNS TABLE (partition_name text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $$
DECLARE
    parent            regclass := 'public.outbox';
    default_partition regclass;
    schema_name       name;
    table_name        name;
    today             date := (now() AT TIME ZONE 'UTC')::date;
    -- In the last minutes of a day, tomorrow is as good as today.
    begun             date := ((now() + interval '5 minutes') AT TIME ZONE 'UTC')::date;
    day               date;
    day_begin         text;
    day_end           text;
BEGIN
    IF days IS NULL OR days NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'days must be between 0 and 366, not %', days;
    END IF;
    SELECT n.nspname, c.relname, nullif(p.partdefid, 0)
      INTO schema_name, table_name, default_partition
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_partitioned_table p ON p.partrelid = c.oid
     WHERE c.oid = parent;

    FOR ahead IN 0 .. days LOOP
        day := today + ahead;
        CONTINUE WHEN day <= begun AND NOT include_today;
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
            -- The locks that ATTACH takes. Writers go past the first, which may wait.
            EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
            IF default_partition IS NOT NULL THEN
                EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', default_partition);
            END IF;
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

-- outbox_confirmed_xid returns the transaction id below which every transaction has ended
-- and is confirmed by all logical slots of this database: that is what a slot's catalog_xmin
-- says. It is 0 where there is no such slot, or one that says nothing.
CREATE FUNCTION public.outbox_confirmed_xid()
RETURNS xid8
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    epoch   CONSTANT bigint := 4294967296;
    xids    bigint[];
    next_id bigint;
BEGIN
    SELECT array_agg(catalog_xmin::text::bigint)
      INTO xids
      FROM pg_replication_slots
     WHERE slot_type = 'logical' AND database = current_database();
    IF xids IS NULL OR array_position(xids, NULL) IS NOT NULL THEN
        RETURN '0'::xid8;
    END IF;
    -- Asked after the slots, the next id is not below theirs, which lack the upper half.
    next_id := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
    RETURN (SELECT greatest(min(next_id - (next_id - x + epoch) % epoch), 0)::text::xid8 FROM unnest(xids) x);
END;
$$;

-- outbox_drop_partitions drops the daily partitions whose whole day is older than
-- `retention`, the oldest first and at most `most` that have rows, and says for each that
-- it looked at:
--
--   dropped      it is gone
--   emptied      its rows are gone; the table is in use, so the empty partition goes later
--   empty        as before: emptied, and the table is still in use
--   unconfirmed  a logical slot of this database has not confirmed all its rows
--   kept         it holds one of the events named in `keep`
--   locked       somebody writes to it or reads it
--
-- A row counts as confirmed when the transaction that wrote it is below
-- outbox_confirmed_xid() and, if it is given, below `confirmed`. Without a logical slot
-- nothing is: rows may be all that is left to repair one that was lost.
--
-- It waits for no lock. Who writes to a partition past its retention may wait for as long
-- as it takes to read that partition once; all others for the dropping of an empty table.
CREATE FUNCTION public.outbox_drop_partitions(
    retention interval, keep uuid[] DEFAULT '{}', confirmed xid8 DEFAULT NULL, most int DEFAULT 10)
RETURNS TABLE (partition_name text, outcome text)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET timezone = 'UTC'
SET datestyle = 'ISO'
SET lock_timeout = '100ms'
AS $$
DECLARE
    parent            regclass := 'public.outbox';
    default_partition regclass;
    horizon           bigint := least(public.outbox_confirmed_xid(), confirmed)::text::bigint;
    old               record;
    found             boolean;
    checked           regclass[] := '{}';
    with_rows         int := 0;
    ours              regclass[] := '{}';
    partition         regclass;
    whole             boolean := true;
BEGIN
    IF retention IS NULL OR retention <= interval '0' THEN
        RAISE EXCEPTION 'retention must be positive, not %', retention;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'outbox_drop_partitions must see what was committed last: call it in a READ COMMITTED transaction';
    END IF;
    SELECT nullif(partdefid, 0) INTO default_partition FROM pg_partitioned_table WHERE partrelid = parent;

    FOR old IN
        SELECT c.oid::regclass AS id, c.relname AS name
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
          JOIN pg_class p ON p.oid = i.inhparent
         CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid),
                '^FOR VALUES FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') AS bound
         WHERE i.inhparent = parent AND NOT i.inhdetachpending AND c.relkind = 'r'
           -- Those of outbox_create_partitions, no others.
           AND c.relname = p.relname || '_p' || to_char(bound[1]::timestamptz, 'YYYYMMDD')
           AND bound[2]::timestamptz = bound[1]::timestamptz + interval '1 day'
           AND bound[2]::timestamptz <= now() - retention
         ORDER BY bound[1]::timestamptz
    LOOP
        EXIT WHEN with_rows >= most;
        partition_name := old.name;
        BEGIN
            -- With this lock nobody has a transaction open that wrote to it, or begins one.
            EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE NOWAIT', old.id);
            EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE id = ANY ($1))', old.id) INTO found USING keep;
            IF found THEN
                RAISE SQLSTATE 'PR001' USING MESSAGE = 'kept';
            END IF;
            -- xmin and not tx_id: a row that was copied here brings the tx_id of its first life.
            -- It is the lower half of the transaction's id, so it is compared within a window:
            -- from the horizon up to the next id.
            EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE (xmin::text::bigint - $1 %% $2 + $2) %% $2
                                < pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $1)', old.id)
               INTO found USING horizon, 4294967296;
            IF found THEN
                RAISE SQLSTATE 'PR001' USING MESSAGE = 'unconfirmed';
            END IF;
            checked := checked || old.id;
            with_rows := with_rows + (pg_relation_size(old.id) > 0)::int;
        EXCEPTION -- gives the lock back
            WHEN SQLSTATE 'PR001' THEN
                outcome := SQLERRM;
                RETURN NEXT;
            WHEN lock_not_available THEN
                outcome := 'locked';
                RETURN NEXT;
        END;
    END LOOP;

    -- From here on nothing is read: locks that others might need are held for a moment only.
    FOREACH partition IN ARRAY checked LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', partition);
            ours := ours || partition;
        EXCEPTION
            WHEN lock_not_available THEN
                partition_name := (SELECT relname FROM pg_class WHERE oid = partition);
                outcome := 'locked';
                RETURN NEXT;
        END;
    END LOOP;
    IF ours = '{}' THEN
        RETURN;
    END IF;
    BEGIN
        EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', parent);
        IF default_partition IS NOT NULL THEN
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', default_partition);
        END IF;
    EXCEPTION
        WHEN lock_not_available THEN
            whole := false;
    END;
    FOREACH partition IN ARRAY ours LOOP
        partition_name := (SELECT relname FROM pg_class WHERE oid = partition);
        IF whole THEN
            EXECUTE format('DROP TABLE %s', partition);
            outcome := 'dropped';
        ELSIF pg_relation_size(partition) > 0 THEN
            EXECUTE format('TRUNCATE ONLY %s', partition);
            outcome := 'emptied';
        ELSE
            outcome := 'empty';
        END IF;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- outbox_trim_default deletes up to `batch` rows of the default partition that are older
-- than `retention`, confirmed and not in `keep`, as outbox_drop_partitions understands these,
-- and returns how many. Call it again, in a new transaction, until it returns less.
CREATE FUNCTION public.outbox_trim_default(
    retention interval, keep uuid[] DEFAULT '{}', confirmed xid8 DEFAULT NULL, batch int DEFAULT 1000)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET lock_timeout = '2s'
AS $$
DECLARE
    default_partition regclass;
    horizon           bigint := least(public.outbox_confirmed_xid(), confirmed)::text::bigint;
    deleted           bigint;
BEGIN
    IF retention IS NULL OR retention <= interval '0' THEN
        RAISE EXCEPTION 'retention must be positive, not %', retention;
    END IF;
    SELECT nullif(partdefid, 0) INTO default_partition FROM pg_partitioned_table WHERE partrelid = 'public.outbox'::regclass;
    IF default_partition IS NULL THEN
        RETURN 0;
    END IF;
    EXECUTE format('DELETE FROM ONLY %1$s WHERE ctid = ANY (ARRAY(
                        SELECT ctid FROM ONLY %1$s
                         WHERE created_at < now() - $3 AND id <> ALL ($4)
                           AND (xmin::text::bigint - $1 %% $2 + $2) %% $2
                               >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint - $1
                         LIMIT $5))', default_partition)
      USING horizon, 4294967296, retention, coalesce(keep, '{}'), batch;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END;
$$;

-- They run with their owner's rights: whoever may call them is granted that by name.
REVOKE ALL ON FUNCTION public.outbox_create_partitions(int, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION public.outbox_drop_partitions(interval, uuid[], xid8, int) FROM PUBLIC;
REVOKE ALL ON FUNCTION public.outbox_trim_default(interval, uuid[], xid8, int) FROM PUBLIC;

SELECT partition_name, outcome FROM public.outbox_create_partitions(7, include_today => true);
