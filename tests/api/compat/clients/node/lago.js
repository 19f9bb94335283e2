// The official JavaScript client of Lago: `node lago.js BASE KEY` prints what it read.
import { Client, getLagoError } from 'lago-javascript-client'

const [base, key] = process.argv.slice(2)
const client = Client(key, { baseUrl: `${base}/api/v1` })
const now = Math.floor(Date.now() / 1000)
const month = new Date()
month.setUTCDate(1)
month.setUTCHours(0, 0, 0, 0)
const events = Array.from({ length: 50 }, (_, n) => ({
  transaction_id: `js-${n}`,
  external_subscription_id: 'js-sub',
  code: 'js_total',
  timestamp: now,
  properties: { total: n % 5 ? n : '0.1' },
}))
const refused = async (ask) => {
  try {
    await ask()
    return null
  } catch (error) {
    return [error.status, (await getLagoError(error)).error_details ?? null]
  }
}
const { data: made } = await client.billableMetrics.createBillableMetric({
  billable_metric: { name: 'JS', code: 'js_total', aggregation_type: 'sum_agg', field_name: 'total' },
})
await client.customers.createCustomer({ customer: { external_id: 'js-customer', name: 'JS', currency: 'EUR' } })
await client.plans.createPlan({
  plan: {
    name: 'JS', code: 'js', interval: 'monthly', amount_cents: 0, amount_currency: 'EUR',
    charges: [
      {
        billable_metric_id: made.billable_metric.lago_id, charge_model: 'package',
        properties: { amount: '3', package_size: 100, free_units: 1 },
      },
    ],
  },
})
await client.subscriptions.createSubscription({
  subscription: {
    external_customer_id: 'js-customer', external_id: 'js-sub', plan_code: 'js', subscription_at: month.toISOString(),
  },
})
await client.events.createEvent({ event: events[0] })
const result = { repeated: await refused(() => client.events.createEvent({ event: events[0] })) }
await client.events.createBatchEvents({ events: events.slice(1) })
result.batch = await refused(() => client.events.createBatchEvents({ events: events.slice(0, 2) }))
const { data } = await client.customers.findCustomerCurrentUsage('js-customer', { external_subscription_id: 'js-sub' })
result.usage = data.customer_usage.charges_usage.map((one) => [one.units, one.events_count, one.amount_cents])
result.found = (await client.events.findEvent('js-7')).data.event.properties
result.listed = (await client.events.findAllEvents({ external_subscription_id: 'js-sub' })).data.meta.total_count
console.log(JSON.stringify(result))
