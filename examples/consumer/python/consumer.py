"""The smallest idempotent consumer of events: it prints each event once, and counts in Postgres
how many there were of each key."""
import json
import os
import signal
import sys

import psycopg
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

GROUP = os.environ["GROUP"]  # also the name under which the inbox marks events
TOPIC = os.environ["TOPIC"]

COUNT = """
    INSERT INTO event_counts (consumer, key, events) VALUES (%s, %s, 1)
    ON CONFLICT (consumer, key) DO UPDATE SET events = event_counts.events + 1
"""

running = True


def stop(*_):
    global running
    running = False


def handle(message):
    headers = {name: value.decode() for name, value in message.headers() or []}
    data = decode(message.value(), SerializationContext(TOPIC, MessageField.VALUE))  # None for a tombstone
    with db.transaction():
        # True once per event: the mark that it leaves is committed with what follows.
        first = db.execute("SELECT inbox_once(%s, %s)", (GROUP, headers["ce_id"])).fetchone()[0]
        if first:
            db.execute(COUNT, (GROUP, message.key().decode()))
    if first:
        attributes = " ".join(f"{name}={headers['ce_' + name]}" for name in ("id", "source", "subject", "time"))
        print(headers["ce_type"], attributes, json.dumps(data, default=str), flush=True)
    else:
        print(f"skipped a duplicate in {TOPIC}: {headers['ce_id']}", file=sys.stderr, flush=True)


signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)

decode = AvroDeserializer(SchemaRegistryClient({"url": os.environ["REGISTRY_URL"]}))
db = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
consumer = Consumer(
    {
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        "group.id": GROUP,
        "auto.offset.reset": "earliest",
        "enable.auto.offset.store": False,  # only what is stored below is committed
    }
)
consumer.subscribe([TOPIC])
try:
    while running:
        message = consumer.poll(0.5)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        handle(message)
        consumer.store_offsets(message)  # after the transaction; committed every few seconds, and by close
finally:
    consumer.close()
    db.close()
