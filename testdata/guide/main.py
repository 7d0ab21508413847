"""Places orders as docs/guide-existing-service.md shows it: one that goes well, one that is refused at
the commit, and one whose event is."""
import os

import psycopg

from orders import place_order


def refused(error, *order):
    try:
        place_order(conn, *order)
    except error:
        return
    raise SystemExit(f"the order {order} was no error")


with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
    place_order(conn, "python-1", "ada", 1990, "checkout-4711")
    refused(psycopg.errors.RaiseException, "python-refused", "mallory", 1, "checkout-4712")
    refused(psycopg.errors.CheckViolation, "python-unheard", "ada", 1, "checkout-4713")
