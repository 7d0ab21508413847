CREATE SCHEMA IF NOT EXISTS inventory;

-- Every unit that was ever received is in one of the other columns.
CREATE TABLE IF NOT EXISTS inventory.stock (
    item      text PRIMARY KEY,
    received  int  NOT NULL DEFAULT 0,
    available int  NOT NULL DEFAULT 0 CHECK (available >= 0),
    reserved  int  NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    shipped   int  NOT NULL DEFAULT 0 CHECK (shipped >= 0)
);

-- Several rows for one order would be legal, so nothing but the inbox keeps an order.created
-- that comes twice from reserving twice.
CREATE TABLE IF NOT EXISTS inventory.reservations (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id text   NOT NULL,
    item     text   NOT NULL REFERENCES inventory.stock,
    quantity int    NOT NULL CHECK (quantity > 0),
    state    text   NOT NULL DEFAULT 'reserved' CHECK (state IN ('reserved', 'released', 'shipped'))
);
CREATE INDEX IF NOT EXISTS reservations_order_id ON inventory.reservations (order_id);
