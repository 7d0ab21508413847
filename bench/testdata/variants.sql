-- What the benchmarks load beside the events of internal/benchmark/workload.sql.

-- load_typed_events commits the events first to last - 1, so many in each transaction, in turn
-- of the types order.created_0, order.created_1, …
CREATE PROCEDURE load_typed_events(first bigint, last bigint, per_transaction bigint, note_bytes int, types int)
LANGUAGE plpgsql
AS $$
BEGIN
    WHILE first < last LOOP
        INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload)
        SELECT 'order', 'order-' || n % 20000, 'order.created_' || n % types, event_payload(n, note_bytes)
          FROM generate_series(first, least(first + per_transaction, last) - 1) n;
        COMMIT;
        first := first + per_transaction;
    END LOOP;
END
$$;

-- Payloads that are made before the clock runs: as JSON and, where it is wanted, as Avro.
CREATE UNLOGGED TABLE prepared (n int PRIMARY KEY, payload json NOT NULL, payload_avro bytea);

CREATE PROCEDURE prepare_payloads(payloads int, note_bytes int)
LANGUAGE sql
AS $$
    INSERT INTO prepared (n, payload) SELECT n, event_payload(n, note_bytes) FROM generate_series(0, payloads - 1) n;
$$;

-- load_avro_events is load_typed_events with the prepared Avro as payloads, of a single type.
CREATE PROCEDURE load_avro_events(first bigint, last bigint, per_transaction bigint, payloads int, fingerprint bytea)
LANGUAGE plpgsql
AS $$
BEGIN
    WHILE first < last LOOP
        INSERT INTO outbox (aggregate_type, aggregate_id, event_type, payload_avro, schema_fingerprint)
        SELECT 'order', 'order-' || event % 20000, 'order.created', (SELECT payload_avro FROM prepared WHERE n = event % payloads), fingerprint
          FROM generate_series(first, least(first + per_transaction, last) - 1) event;
        COMMIT;
        first := first + per_transaction;
    END LOOP;
END
$$;
