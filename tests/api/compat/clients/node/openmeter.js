// The official JavaScript client of OpenMeter: `node openmeter.js BASE KEY` prints what it read.
import { OpenMeter } from '@openmeter/sdk'

const [base, key] = process.argv.slice(2)
const client = new OpenMeter({ baseUrl: base, apiKey: key })
const begin = Date.UTC(2026, 2, 1)
const events = Array.from({ length: 50 }, (_, n) => ({
  id: `js-${n}`,
  source: 'js',
  type: 'js_prompt',
  subject: `js-${n % 2}`,
  time: new Date(begin + n * 3_600_000),
  data: { tokens: n % 5 ? n : '0.1', model: n % 3 ? 'gpt-4' : 'o1' },
}))
const meter = await client.meters.create({
  slug: 'js_tokens',
  aggregation: 'SUM',
  eventType: 'js_prompt',
  valueProperty: '$.tokens',
  groupBy: { model: '$.model' },
})
await client.events.ingest(events[0])
await client.events.ingest(events[0])
await client.events.ingest(events)
await client.events.ingest(events.slice(20))
const figures = (answer) => answer.data.map((row) => [row.subject, row.groupBy.model ?? null, row.value])
const asked = { from: new Date(begin), to: new Date(begin + 7 * 86_400_000) }
let refused
try {
  await client.meters.get('none')
} catch (error) {
  refused = [error.status, error.title]
}
console.log(
  JSON.stringify({
    created: [meter.slug, meter.createdAt instanceof Date],
    total: figures(await client.meters.query('js_tokens')),
    filtered: figures(
      await client.meters.query('js_tokens', {
        ...asked, subject: ['js-0', 'js-1'], groupBy: ['model'], filterGroupBy: { model: 'o1' },
      }),
    ).sort(),
    days: (await client.meters.query('js_tokens', { ...asked, windowSize: 'DAY' })).data.map((row) => row.value),
    posted: figures(
      await client.meters.queryPost('js_tokens', { advancedMeterGroupByFilters: { model: { $ilike: 'GPT%' } } }),
    ),
    events: (await client.events.list({ subject: 'js-1', from: asked.from, limit: 3 })).map((one) => one.event.id),
    paged: (await client.events.listV2({ filter: JSON.stringify({ id: { $in: ['js-1', 'js-2'] } }) })).items.length,
    values: await client.meters.listGroupByValues('js_tokens', 'model'),
    listed: (await client.meters.list()).filter((one) => one.slug === 'js_tokens').length,
    refused,
  }),
)
