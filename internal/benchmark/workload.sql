-- The events that are loaded: orders with 20,000 different keys.

-- Vacuuming the rows just loaded would compete with what is measured.
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
CREATE FUNCTION event_payload(n bigint, note_bytes int) RETURNS json
LANGUAGE sql STABLE
AS $$
    SELECT json_build_object(
        'seq', n,
        'customer', 'customer-' || n % 5000,
        'currency', 'EUR',
        'total', (n % 10000) / 100.0,
        'status', 'CREATED',
        'lines', json_build_array(json_build_object('sku', 'SKU-' || n % 977, 'qty', n % 7 + 1)),
        'note', left(repeat(encode(sha512(n::text::bytea), 'hex'), note_bytes / 128 + 1), note_bytes));
$$;

-- load_events commits the events first to last - 1, so many in each transaction.
CREATE PROCEDURE load_events(first bigint, last bigint, per_transaction bigint, note_bytes int)
LANGUAGE plpgsql
AS $$
BEGIN
    WHILE first < last LOOP
        INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
        SELECT 'order', 'order-' || n % 20000, 'order.created', event_payload(n, note_bytes)
          FROM generate_series(first, least(first + per_transaction, last) - 1) n;
        COMMIT;
        first := first + per_transaction;
    END LOOP;
END
$$;

-- Not published; a row in it flushes the WAL before it.
CREATE TABLE loaded (at timestamptz NOT NULL DEFAULT now());
