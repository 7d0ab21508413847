"""Drives a registry as services in Python do, by confluent-kafka's own client and serializers."""
import json
import os

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

client = SchemaRegistryClient({"url": os.environ["REGISTRY_URL"]})


def record(name, *fields):
    return json.dumps({"type": "record", "name": name, "namespace": "py", "fields": list(fields)})


def expect(what, got, want):
    if got != want:
        raise SystemExit(f"{what}: got {got!r}, want {want!r}")


def refused(what, call, status):
    try:
        got = call()
    except SchemaRegistryError as e:
        expect(what, e.http_status_code, status)
        return e.error_code
    raise SystemExit(f"{what}: got {got!r}, want a refusal")


ID = {"name": "id", "type": "string"}
order = Schema(record("Order", ID), "AVRO")
newer = Schema(record("Order", ID, {"name": "note", "type": ["null", "string"], "default": None}), "AVRO")
broken = Schema(record("Order", ID, {"name": "total", "type": "long"}), "AVRO")

# Registering, twice.
first = client.register_schema("py-order", order)
expect("the same schema again", client.register_schema("py-order", order), first)
expect("under another subject", client.register_schema("py-order-copy", order), first)
expect("by id", json.loads(client.get_schema(first).schema_str), json.loads(order.schema_str))
latest = client.get_latest_version("py-order")
expect("latest", (latest.version, latest.schema_id), (1, first))
expect("lookup", client.lookup_schema("py-order", order).version, 1)

# Compatibility.
expect("a compatible change", client.test_compatibility("py-order", newer), True)
expect("an incompatible change", client.test_compatibility("py-order", broken), False)
expect("its code", refused("an incompatible version", lambda: client.register_schema("py-order", broken), 409), 409)
second = client.register_schema("py-order", newer)
expect("versions", client.get_versions("py-order"), [1, 2])
client.set_compatibility("py-order", level="NONE")
expect("level", client.get_compatibility("py-order"), "NONE")
client.register_schema("py-order", broken)

# References.
line = Schema(record("Line", {"name": "sku", "type": "string"}), "AVRO")
client.register_schema("py-line", line)
basket = Schema(
    record("Basket", {"name": "lines", "type": {"type": "array", "items": "py.Line"}}),
    "AVRO",
    [SchemaReference("py.Line", "py-line", 1)],
)
client.register_schema("py-basket", basket)
expect("what is referred to cannot go", refused("delete", lambda: client.delete_subject("py-line"), 422), 42206)

# Values.
to_bytes = AvroSerializer(
    client, basket, conf={"auto.register.schemas": False, "subject.name.strategy": lambda ctx, name: "py-basket"}
)
where = SerializationContext("baskets", MessageField.VALUE)
from_bytes = AvroDeserializer(client)
value = {"lines": [{"sku": "S-1"}, {"sku": "S-2"}]}
expect("a value", from_bytes(to_bytes(value, where), where), value)

# Deleting.
expect("an unknown subject", refused("unknown", lambda: client.get_latest_version("py-none"), 404), 40401)
expect("soft", client.delete_subject("py-order-copy"), [1])
expect("then for good", client.delete_subject("py-order-copy", permanent=True), [1])
expect("the id stays", client.get_schema(second).schema_type, "AVRO")
print("ok")
