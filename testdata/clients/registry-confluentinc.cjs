// Drives a registry as services on @confluentinc/kafka-javascript do.
const assert = require('node:assert/strict')
const { AvroDeserializer, AvroSerializer, Compatibility, SchemaRegistryClient, SerdeType } = require('@confluentinc/schemaregistry')

const record = (name, ...fields) => JSON.stringify({ type: 'record', name, namespace: 'cjs', fields })
const id = { name: 'id', type: 'string' }
const refused = (status, code) => (err) => err.status === status && err.errorCode === code

async function main() {
  const client = new SchemaRegistryClient({ baseURLs: [process.env.REGISTRY_URL] })
  const order = { schemaType: 'AVRO', schema: record('Order', id) }
  const first = await client.register('cjs-order-value', order)
  assert.equal(await client.register('cjs-order-value', order), first)
  assert.equal((await client.getLatestSchemaMetadata('cjs-order-value')).version, 1)
  const broken = { schemaType: 'AVRO', schema: record('Order', id, { name: 'total', type: 'long' }) }
  assert.equal(await client.testSubjectCompatibility('cjs-order-value', broken), false)
  await assert.rejects(client.register('cjs-order-value', broken), refused(409, 409))
  await client.updateCompatibility('cjs-order-value', Compatibility.FULL_TRANSITIVE)
  assert.equal(await client.getCompatibility('cjs-order-value'), 'FULL_TRANSITIVE')

  const serializer = new AvroSerializer(client, SerdeType.VALUE, { useLatestVersion: true })
  const deserializer = new AvroDeserializer(new SchemaRegistryClient({ baseURLs: [process.env.REGISTRY_URL] }), SerdeType.VALUE, {})
  const bytes = await serializer.serialize('cjs-order', { id: 'o-1' })
  assert.deepEqual({ ...(await deserializer.deserialize('cjs-order', bytes)) }, { id: 'o-1' })

  await assert.rejects(client.getLatestSchemaMetadata('cjs-none'), refused(404, 40401))
  assert.deepEqual(await client.deleteSubject('cjs-order-value'), [1])
  assert.deepEqual(await client.deleteSubject('cjs-order-value', true), [1])
  console.log('ok')
}

main().catch((err) => {
  console.error(err)
  process.exit(1)
})
