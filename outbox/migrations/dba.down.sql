-- Stop the relay first. A slot without a reader keeps WAL for ever, so it goes first.
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'postrider_name';
DROP PUBLICATION postrider_name;
REVOKE ALL ON FUNCTION public.outbox_create_partitions(int, boolean) FROM postrider_name;
REVOKE ALL ON FUNCTION public.outbox_drop_partitions(interval, uuid[], xid8, int) FROM postrider_name;
REVOKE ALL ON FUNCTION public.outbox_trim_default(interval, uuid[], xid8, int) FROM postrider_name;
REVOKE ALL ON public.outbox, public.outbox_schema FROM postrider_name;
REVOKE ALL ON SCHEMA public FROM postrider_name;
DROP ROLE postrider_name;
