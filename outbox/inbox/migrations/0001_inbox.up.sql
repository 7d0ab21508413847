-- The inbox: one row, a mark, per event and consumer, written in the transaction that
-- handles the event. Whoever meets an event again finds its mark and leaves it alone.
--
-- Postgres keeps a key unique within a partition only, and an event may come again on
-- another day than at first. So the partition of a mark follows from its key, never from
-- the time at which it was written: the same key always meets the same unique index.

-- inbox_day is that rule: the day (UTC) of a UUIDv7, and -infinity for every other key.
CREATE FUNCTION public.inbox_day(dedupe_key text)
RETURNS date
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
AS $$
    -- RFC 9562: the first 48 bits are milliseconds since 1970.
    SELECT CASE WHEN $1 ~* '^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'
                THEN date '1970-01-01' + (('x0000' || left($1, 8) || substr($1, 10, 4))::bit(64)::bigint / 86400000)::int
                ELSE '-infinity'
           END;
$$;

CREATE TABLE public.inbox (
    consumer   text        NOT NULL, -- who handled it
    dedupe_key text        NOT NULL, -- the event's id: the header ce_id
    day        date        NOT NULL, -- partition key, inbox_day(dedupe_key)
    handled_at timestamptz NOT NULL DEFAULT now(),

    PRIMARY KEY (consumer, dedupe_key, day),
    -- An empty key would make one event of many.
    CONSTRAINT inbox_names CHECK (octet_length(consumer) BETWEEN 1 AND 256 AND octet_length(dedupe_key) BETWEEN 1 AND 256),
    CONSTRAINT inbox_day_of_key CHECK (day = public.inbox_day(dedupe_key))
) PARTITION BY LIST (day);

-- Keys without a time.
CREATE TABLE public.inbox_untimed PARTITION OF public.inbox FOR VALUES IN ('-infinity');
CREATE INDEX ON public.inbox_untimed (handled_at);

-- Every day without a partition of its own: a mark never fails for want of one.
CREATE TABLE public.inbox_default PARTITION OF public.inbox DEFAULT;
CREATE INDEX ON public.inbox_default (handled_at);

-- inbox_once writes a mark as part of the transaction and reports whether it is new: true
-- means that the event has to be handled now. It waits for a transaction that has written
-- the same mark and is still open, and returns true if that is rolled back.
CREATE FUNCTION public.inbox_once(consumer text, dedupe_key text)
RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO public.inbox VALUES ($1, $2, public.inbox_day($2)) ON CONFLICT DO NOTHING;
    RETURN FOUND;
END;
$$;

-- inbox_create_partitions makes the daily partitions (UTC) from tomorrow to `days` days
-- ahead and returns how many it made. Today is left alone, unless include_today says that
-- nobody writes yet: a mark on its way to the default partition would be refused the moment
-- that today's appears. A day is also left alone that has marks in the default partition,
-- or if a lock cannot be had at once; it is tried again at the next call.
CREATE FUNCTION public.inbox_create_partitions(days int, include_today boolean DEFAULT false)
RETURNS int
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
SET lock_timeout = '1s'
AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    -- In the last minutes of a day, tomorrow is as good as today.
    begun date := ((now() + interval '5 minutes') AT TIME ZONE 'UTC')::date;
    day   date;
    name  text; -- of the partition, with its schema
    made  int := 0;
BEGIN
    IF days IS NULL OR days NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'days must be between 0 and 366, not %', days;
    END IF;
    FOR ahead IN 0 .. days LOOP
        day := today + ahead;
        CONTINUE WHEN day <= begun AND NOT include_today;
        SELECT format('%I.%I', n.nspname, c.relname || '_p' || to_char(day, 'YYYYMMDD')) INTO name
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = 'public.inbox'::regclass;
        BEGIN
            -- One caller at a time: the second finds the partition present.
            PERFORM pg_advisory_xact_lock(hashtext('postrider inbox partitions'), 'public.inbox'::regclass::oid::int);
            CONTINUE WHEN to_regclass(name) IS NOT NULL;
            -- ATTACH lets marks of other days be written meanwhile, CREATE … PARTITION OF would not.
            EXECUTE format('CREATE TABLE %s (LIKE public.inbox INCLUDING ALL)', name);
            LOCK TABLE ONLY public.inbox IN SHARE UPDATE EXCLUSIVE MODE;
            LOCK TABLE ONLY public.inbox_default IN ACCESS EXCLUSIVE MODE NOWAIT;
            EXECUTE format('ALTER TABLE public.inbox ATTACH PARTITION %s FOR VALUES IN (%L)', name, day);
            made := made + 1;
        EXCEPTION
            WHEN check_violation THEN NULL; -- the default partition has marks of that day
            WHEN lock_not_available THEN EXIT;
        END;
    END LOOP;
    RETURN made;
END;
$$;

-- inbox_drop_partition drops the oldest daily partition whose whole day is older than
-- `retention` and whose marks are all older than that, too: an old event that was handled
-- lately keeps its mark. It returns the partition's name, or NULL if there is none: call it
-- until then, each time in a new transaction.
--
-- It waits for no lock. A partition is dropped while no transaction that writes marks is
-- open; where there always is one it is emptied, which is as good, and dropped later.
CREATE FUNCTION public.inbox_drop_partition(retention interval)
RETURNS text
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
SET lock_timeout = '100ms'
AS $$
DECLARE
    old    record;
    lately boolean;
BEGIN
    IF retention IS NULL OR retention <= interval '0' THEN
        RAISE EXCEPTION 'retention must be positive, not %', retention;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'inbox_drop_partition must see what was committed last: call it in a READ COMMITTED transaction';
    END IF;
    FOR old IN
        SELECT c.oid::regclass AS id, c.relname AS name
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
          JOIN pg_class p ON p.oid = i.inhparent
         CROSS JOIN LATERAL substring(c.relname FROM '_p([0-9]{8})$') AS day
         WHERE i.inhparent = 'public.inbox'::regclass AND c.relkind = 'r'
           -- Those of inbox_create_partitions, no others.
           AND c.relname = p.relname || '_p' || day
           AND pg_get_expr(c.relpartbound, c.oid) = format('FOR VALUES IN (%L)', to_date(day, 'YYYYMMDD'))
           AND to_date(day, 'YYYYMMDD') < ((now() - retention) AT TIME ZONE 'UTC')::date
         ORDER BY day
    LOOP
        BEGIN
            -- With this lock nobody has a transaction open that wrote to it.
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', old.id);
            EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s WHERE handled_at >= now() - $1)', old.id)
               INTO lately USING retention;
            CONTINUE WHEN lately;
            BEGIN
                LOCK TABLE ONLY public.inbox, ONLY public.inbox_default IN ACCESS EXCLUSIVE MODE NOWAIT;
                EXECUTE format('DROP TABLE %s', old.id);
                RETURN old.name;
            EXCEPTION
                WHEN lock_not_available THEN NULL;
            END;
            CONTINUE WHEN pg_relation_size(old.id) = 0;
            EXECUTE format('TRUNCATE ONLY %s', old.id);
            RETURN old.name;
        EXCEPTION
            WHEN lock_not_available THEN NULL;
        END;
    END LOOP;
    RETURN NULL;
END;
$$;

-- inbox_trim deletes up to `batch` marks older than `retention` from each of the two
-- partitions that are no day's, and returns how many. Call it again, in a new transaction,
-- until it returns less than `batch`.
CREATE FUNCTION public.inbox_trim(retention interval, batch int DEFAULT 1000)
RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS $$
DECLARE
    untimed   bigint;
    elsewhere bigint;
BEGIN
    IF retention IS NULL OR retention <= interval '0' THEN
        RAISE EXCEPTION 'retention must be positive, not %', retention;
    END IF;
    DELETE FROM public.inbox_untimed WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM public.inbox_untimed WHERE handled_at < now() - retention
         ORDER BY handled_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS untimed = ROW_COUNT;
    DELETE FROM public.inbox_default WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM public.inbox_default WHERE handled_at < now() - retention
         ORDER BY handled_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS elsewhere = ROW_COUNT;
    RETURN untimed + elsewhere;
END;
$$;

-- They run with their owner's rights: whoever may call them is granted that by name.
REVOKE ALL ON FUNCTION public.inbox_create_partitions(int, boolean) FROM PUBLIC;
REVOKE ALL ON FUNCTION public.inbox_drop_partition(interval) FROM PUBLIC;
REVOKE ALL ON FUNCTION public.inbox_trim(interval, int) FROM PUBLIC;

-- Consumers that do not own the table need:
--   GRANT INSERT ON public.inbox TO …;
--   GRANT EXECUTE ON FUNCTION public.inbox_create_partitions(int, boolean),
--       public.inbox_drop_partition(interval), public.inbox_trim(interval, int) TO …;
SELECT public.inbox_create_partitions(7, include_today => true);
