import { useAsk } from "../ask";
import { Chart } from "../components/Chart";
import { Figure } from "../components/Figure";
import { Answered, Empty } from "../components/States";
import { useZone } from "../preferences";
import { client } from "../session";
import { windowText } from "../time";

const REASONS: Readonly<Record<string, string>> = {
  no_history: "There is nothing yet to foresee it from.",
  short_history: "There is little history yet: it goes on as it was on average.",
  not_installed: "This installation does not forecast.",
};

/** The next 30 days of a meter. */
export function Foreseen({ customer, meter }: { customer: string; meter: string }) {
  const zone = useZone();
  const asked = useAsk(`forecast ${customer} ${meter} ${zone}`, (signal) =>
    client.call("GET /v1/meters/{key}/forecast", { path: { key: meter }, query: { customer, include_children: true, horizon: "P30D", timezone: zone }, signal }));
  return (
    <section class="panel">
      <header><h2>The next 30 days</h2></header>
      <Answered of={asked} what="Looking ahead">
        {(answer) => answer.rows.length === 0 ? <Empty title={REASONS[answer.reason ?? ""] ?? "It cannot be foreseen"} /> : (
          <>
            {answer.reason && <p class="muted">{REASONS[answer.reason]}</p>}
            {answer.total !== null && (
              <p>
                <span class="big"><Figure value={answer.total.value} unit={answer.unit ?? null} /></span>{" "}
                <span class="muted">expected, probably between <Figure value={answer.total.low} /> and <Figure value={answer.total.high} /></span>
              </p>
            )}
            <Chart
              title="Forecast"
              height={180}
              kind="lines"
              unit={answer.unit ?? null}
              series={[
                { name: "expected", values: answer.rows.map((row) => row.value) },
                { name: "at least, probably", values: answer.rows.map((row) => row.low), rest: true },
                { name: "at most, probably", values: answer.rows.map((row) => row.high), rest: true },
              ]}
              labels={answer.rows.map((row) => windowText(row.from, answer.window ?? "day", zone))}
            />
          </>
        )}
      </Answered>
    </section>
  );
}
