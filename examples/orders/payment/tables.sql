CREATE SCHEMA IF NOT EXISTS payments;

-- A ledger is only appended to. An order may have several entries, so nothing but the inbox
-- keeps an order.created that comes twice from charging twice.
CREATE TABLE IF NOT EXISTS payments.ledger (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id     text        NOT NULL,
    kind         text        NOT NULL CHECK (kind IN ('charge', 'refund')),
    amount_cents bigint      NOT NULL CHECK (amount_cents > 0),
    booked_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS ledger_order_id ON payments.ledger (order_id);
