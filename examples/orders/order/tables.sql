CREATE SCHEMA IF NOT EXISTS orders;

CREATE SEQUENCE IF NOT EXISTS orders.order_id;

CREATE TABLE IF NOT EXISTS orders.orders (
    id           text        PRIMARY KEY DEFAULT nextval('orders.order_id')::text,
    customer     text        NOT NULL,
    item         text        NOT NULL,
    quantity     int         NOT NULL CHECK (quantity > 0),
    amount_cents bigint      NOT NULL CHECK (amount_cents > 0),
    status       text        NOT NULL DEFAULT 'placed' CHECK (status IN ('placed', 'paid', 'shipped', 'cancelled')),
    stock        text        CHECK (stock IN ('reserved', 'rejected')),     -- the inventory's answer
    payment      text        CHECK (payment IN ('processed', 'declined')),  -- the payment's answer
    placed_at    timestamptz NOT NULL DEFAULT now()
);
