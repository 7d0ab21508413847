// The smallest idempotent consumer of events: it prints each event once, and counts in Postgres
// how many there were of each key.
import { SchemaRegistry } from '@kafkajs/confluent-schema-registry'
import kafkajs from 'kafkajs'
import { compressFrame, decompressFrame } from 'lz4-napi'
import pg from 'pg'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
const { DATABASE_URL, KAFKA_BROKERS, REGISTRY_URL, TOPIC } = process.env
const { GROUP } = process.env // also the name under which the inbox marks events

const COUNT = `
  INSERT INTO event_counts (consumer, key, events) VALUES ($1, $2, 1)
  ON CONFLICT (consumer, key) DO UPDATE SET events = event_counts.events + 1`

// The relay compresses with LZ4 unless it is told otherwise; kafkajs by itself knows gzip only.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: ({ buffer }) => compressFrame(buffer),
  decompress: decompressFrame,
})

const db = new pg.Pool({ connectionString: DATABASE_URL })
db.on('error', console.error) // a connection broke while it was idle: the next event gets a new one
const registry = new SchemaRegistry({ host: REGISTRY_URL })
const kafka = new Kafka({ clientId: GROUP, brokers: KAFKA_BROKERS.split(','), logLevel: logLevel.WARN })
const consumer = kafka.consumer({ groupId: GROUP })

// once runs work unless the event was handled before, in the transaction that marks it.
async function once(id, work) {
  const tx = await db.connect()
  let failure
  try {
    await tx.query('BEGIN')
    const { rows } = await tx.query('SELECT inbox_once($1, $2) AS first', [GROUP, id])
    if (rows[0].first) await work(tx)
    await tx.query('COMMIT')
    return rows[0].first
  } catch (err) {
    failure = err
    throw err
  } finally {
    tx.release(failure) // after a failure the connection is closed, and so the transaction rolled back
  }
}

async function handle({ message }) {
  const h = Object.fromEntries(Object.entries(message.headers).map(([name, value]) => [name, String(value)]))
  const data = message.value && (await registry.decode(message.value)) // null for a tombstone
  if (await once(h.ce_id, (tx) => tx.query(COUNT, [GROUP, String(message.key)]))) {
    console.log(`${h.ce_type} id=${h.ce_id} source=${h.ce_source} subject=${h.ce_subject} time=${h.ce_time} ${JSON.stringify(data)}`)
  } else {
    console.error(`skipped a duplicate in ${TOPIC}: ${h.ce_id}`)
  }
}

async function stop() {
  await consumer.disconnect() // finishes the event in hand and commits the offsets
  await db.end()
}
process.once('SIGTERM', stop)
process.once('SIGINT', stop)

// After an error that kafkajs takes for final nothing is consumed any more: whoever watches this process must see it.
consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || process.exit(1))

await consumer.connect()
await consumer.subscribe({ topics: [TOPIC], fromBeginning: true })
await consumer.run({ eachMessage: handle }) // the offset moves on when handle has returned
