-- What the relay `<name>` needs from a DBA, once, after the table exists.
--
-- Server settings (the first three need a restart):
--   wal_level = logical
--   max_wal_senders, max_replication_slots: one more each than is in use
--   max_slot_wal_keep_size: how much disk a stopped relay may hold; past it the slot is lost
-- pg_hba.conf: the role below logs in to this database twice, once with replication=database,
-- which is matched by the database's name like any other connection.

-- REPLICATION may be granted by a superuser only. Amazon RDS: CREATE ROLE … LOGIN, then
-- GRANT rds_replication TO …. Give it a password with \password or a certificate.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postrider_name') THEN
        CREATE ROLE postrider_name LOGIN REPLICATION;
    END IF;
END $$;
GRANT USAGE ON SCHEMA public TO postrider_name;
GRANT SELECT ON public.outbox, public.outbox_schema TO postrider_name;
GRANT EXECUTE ON FUNCTION public.outbox_create_partitions(int, boolean) TO postrider_name;
GRANT EXECUTE ON FUNCTION public.outbox_drop_partitions(interval, uuid[], xid8, int) TO postrider_name;
GRANT EXECUTE ON FUNCTION public.outbox_trim_default(interval, uuid[], xid8, int) TO postrider_name;

-- Services that do not own the table need:
--   GRANT INSERT, SELECT ON public.outbox, public.outbox_schema TO …;

-- The order matters: table, publication, slot. A slot that is older than its publication
-- cannot be read, and on Postgres 18 skips rows without an error.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'postrider_name') THEN
        CREATE PUBLICATION postrider_name FOR TABLE public.outbox
            WITH (publish = 'insert', publish_via_partition_root = true);
    END IF;
END $$;

-- The slot postrider_name is made by the relay at its first start: that way the rows
-- already in the table are delivered too, in front of the stream.
