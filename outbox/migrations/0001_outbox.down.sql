-- Drops the outbox with every event and schema in it. Stop the relay first, and drop its
-- slot if it shall not come back: SELECT pg_drop_replication_slot('postrider_<name>').
DROP FUNCTION public.outbox_trim_default(interval, uuid[], xid8, int);
DROP FUNCTION public.outbox_drop_partitions(interval, uuid[], xid8, int);
DROP FUNCTION public.outbox_confirmed_xid();
DROP FUNCTION public.outbox_create_partitions(int, boolean);
DROP FUNCTION public.outbox_emit(text, text, text, json, jsonb);
DROP TABLE public.outbox_schema;
DROP TABLE public.outbox;
