CREATE SCHEMA IF NOT EXISTS shipping;

-- An order can have several parcels, so nothing but the inbox keeps an order.paid that comes
-- twice from packing two.
CREATE TABLE IF NOT EXISTS shipping.parcels (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id  text        NOT NULL,
    item      text        NOT NULL,
    quantity  int         NOT NULL CHECK (quantity > 0),
    packed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS parcels_order_id ON shipping.parcels (order_id);
