// Drives a registry as services on kafkajs do.
const assert = require('node:assert/strict')
const { SchemaRegistry, SchemaType } = require('@kafkajs/confluent-schema-registry')

const record = (...fields) => JSON.stringify({ type: 'record', name: 'Order', namespace: 'js', fields })
const id = { name: 'id', type: 'string' }

async function main() {
  const registry = new SchemaRegistry({ host: process.env.REGISTRY_URL })
  const subject = 'js-order'
  const first = await registry.register({ type: SchemaType.AVRO, schema: record(id) }, { subject })
  const again = await registry.register({ type: SchemaType.AVRO, schema: record(id) }, { subject })
  assert.equal(again.id, first.id)
  const note = { name: 'note', type: ['null', 'string'], default: null }
  const newer = await registry.register({ type: SchemaType.AVRO, schema: record(id, note) }, { subject })
  assert.equal(await registry.getLatestSchemaId(subject), newer.id)
  assert.equal(await registry.getRegistryId(subject, 1), first.id)
  assert.equal(await registry.getRegistryIdBySchema(subject, { type: SchemaType.AVRO, schema: record(id) }), first.id)
  await assert.rejects(
    registry.register({ type: SchemaType.AVRO, schema: record(id, { name: 'total', type: 'long' }) }, { subject }),
    /incompatible/,
  )
  const reader = new SchemaRegistry({ host: process.env.REGISTRY_URL })
  const order = { id: 'o-1', note: 'fragile' }
  assert.deepEqual({ ...(await reader.decode(await registry.encode(newer.id, order))) }, order)

  const json = JSON.stringify({ type: 'object', properties: { id: { type: 'string' } }, required: ['id'] })
  const asJSON = await registry.register({ type: SchemaType.JSON, schema: json }, { subject: 'js-json' })
  assert.deepEqual(await reader.decode(await registry.encode(asJSON.id, { id: 'o-1' })), { id: 'o-1' })
  const proto = 'syntax = "proto3";\npackage js;\nmessage Order { string id = 1; }\n'
  const asProto = await registry.register({ type: SchemaType.PROTOBUF, schema: proto }, { subject: 'js-proto' })
  assert.deepEqual({ ...(await reader.decode(await registry.encode(asProto.id, { id: 'o-1' }))) }, { id: 'o-1' })
  console.log('ok')
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
