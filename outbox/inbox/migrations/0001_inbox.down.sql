-- Drops the inbox with every mark in it: each event that comes again is handled again.
DROP FUNCTION public.inbox_trim(interval, int);
DROP FUNCTION public.inbox_drop_partition(interval);
DROP FUNCTION public.inbox_create_partitions(int, boolean);
DROP FUNCTION public.inbox_once(text, text);
DROP TABLE public.inbox;
DROP FUNCTION public.inbox_day(text);
