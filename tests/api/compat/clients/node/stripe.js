// Stripe's own library for JavaScript: `node stripe.js BASE KEY` prints what it read. It has options for host and port, and none for
// a path: that is put before each request here, as a proxy would.
import Stripe from 'stripe'

const [base, key] = process.argv.slice(2)
const url = new URL(base)
const http = Stripe.createNodeHttpClient()
const make = http.makeRequest.bind(http)
http.makeRequest = (_host, _port, path, ...rest) => make(url.hostname, url.port, url.pathname + path, ...rest)
const options = { host: url.hostname, port: url.port, protocol: 'http', httpClient: http, telemetry: false, maxNetworkRetries: 0 }
const client = new Stripe(key, options)
const begin = 1772323200 // 2026-03-01
const event = (n) => ({
  event_name: 'tokens',
  identifier: `js-${n}`,
  payload: { stripe_customer_id: 'cus_js', value: n % 5 ? `${n}` : '0.1' },
})
const refused = async (ask) => {
  try {
    await ask()
    return null
  } catch (error) {
    return [error.type, error.statusCode, error.message]
  }
}
const meter = await client.billing.meters.create({
  display_name: 'Tokens',
  event_name: 'tokens',
  default_aggregation: { formula: 'sum' },
})
for (let n = 0; n < 10; n++) {
  await client.billing.meterEvents.create({ ...event(n), timestamp: begin + n })
}
const again = await refused(() => client.billing.meterEvents.create({ ...event(3), timestamp: begin + 3 }))
const session = await client.v2.billing.meterEventSession.create()
const stream = new Stripe(session.authentication_token, options)
const events = Array.from({ length: 50 }, (_, n) => ({ ...event(n), timestamp: new Date((begin + n) * 1000).toISOString() }))
for (const sent of [events, events.slice(5, 9)]) {
  await stream.v2.billing.meterEventStream.create({ events: sent })
}
const range = { customer: 'cus_js', start_time: begin, end_time: begin + 86400 }
const summaries = await client.billing.meters.listEventSummaries(meter.id, range)
const wrong = await refused(() => new Stripe('wrong', options).billing.meters.list())
console.log(
  JSON.stringify({
    again,
    total: summaries.data.map((one) => one.aggregated_value),
    wrong: wrong.slice(0, 2),
    meters: (await client.billing.meters.list()).data.length,
  }),
)
