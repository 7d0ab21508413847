-- The events that the benchmarks load: orders of about 325 bytes of JSON, 20,000 keys.

-- Vacuuming the rows just loaded would compete with the relay for the machine.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'outbox'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', part);
    END LOOP;
END
$$;

-- STABLE like json_build_object: only so can it be inlined, else every call parses it.
CREATE FUNCTION order_payload(n bigint) RETURNS json
LANGUAGE sql STABLE
AS $$
    SELECT json_build_object(
        'seq', n,
        'customer', 'customer-' || n % 5000,
        'currency', 'EUR',
        'total', (n % 10000) / 100.0,
        'status', 'CREATED',
        'lines', json_build_array(json_build_object('sku', 'SKU-' || n % 977, 'qty', n % 7 + 1)),
        'note', md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) || md5((n + 3)::text) || repeat('.', 22));
$$;

-- load_orders commits the orders first to last - 1, so many in each transaction.
CREATE PROCEDURE load_orders(first bigint, last bigint, per_transaction bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    WHILE first < last LOOP
        INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
        SELECT 'order', 'order-' || n % 20000, 'order.created', order_payload(n)
          FROM generate_series(first, least(first + per_transaction, last) - 1) n;
        COMMIT;
        first := first + per_transaction;
    END LOOP;
END
$$;
