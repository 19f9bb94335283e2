/** When a view is sent, as what, and where to. */

import { useState } from "preact/hooks";
import type { BodyOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Dialog } from "../../components/Dialog";
import { Field, faultOf, Select } from "../../components/Form";
import { Answered, Empty, Failed } from "../../components/States";
import { useZone } from "../../preferences";
import { client } from "../../session";
import { keyFrom } from "../explore/Saved";
import type { Report } from "../Views";
import { capital, WEEKDAYS } from "./schedule";

const HOURS = Array.from({ length: 24 }, (_, hour) => [String(hour), `${String(hour).padStart(2, "0")}:00`] as const);
const DAYS = Array.from({ length: 31 }, (_, day) => [String(day + 1), day === 30 ? "The last" : String(day + 1)] as const);

/** `report`: one to change; else a new one of `view`. */
export function ReportForm({ view, report, close, done }: { view: string | null; report: Report | null; close: () => void; done: () => void }) {
  const zone = useZone();
  const of = report?.view ?? view ?? "";
  const [name, setName] = useState(report?.name ?? "");
  const [every, setEvery] = useState<string>(report?.schedule.every ?? "month");
  const [weekday, setWeekday] = useState<string>(report?.schedule.weekday ?? "monday");
  const [day, setDay] = useState(String(report?.schedule.day ?? 1));
  const [hour, setHour] = useState(String(report?.schedule.hour ?? 6));
  const [timezone, setTimezone] = useState(report?.schedule.timezone ?? zone);
  const [format, setFormat] = useState<string>(report?.format ?? "pdf");
  const [chosen, setChannel] = useState(report?.channel ?? "");
  const [enabled, setEnabled] = useState(report?.enabled ?? true);
  const [failure, setFailure] = useState<Error | null>(null);
  const channels = useAsk("channels of ours", () => client.channels.list({ limit: 200 }));
  const save = (channel: string): void => {
    setFailure(null);
    const schedule = {
      every,
      hour: Math.trunc(HOURS.findIndex(([value]) => value === hour)),
      timezone,
      ...(every === "week" ? { weekday } : {}),
      ...(every === "month" ? { day: DAYS.findIndex(([value]) => value === day) + 1 } : {}),
    };
    const body = { name, view: of, schedule, format, channel, enabled };
    const work: Promise<unknown> = report !== null
      ? client.call("PUT /v1/reports/{key}", { path: { key: report.key }, body: body as BodyOf<"PUT /v1/reports/{key}"> })
      : client.call("POST /v1/reports", { body: { key: keyFrom(name), ...body } as BodyOf<"POST /v1/reports"> });
    work.then(done, (error: unknown) => setFailure(asError(error)));
  };
  return (
    <Dialog title={report === null ? `Send ${of}` : `Change ${report.key}`} close={close}>
      <Answered of={channels}>
        {(answer) => {
          const ours = answer.items.filter((one) => one.customer === null);
          const channel = chosen || (ours[0]?.key ?? "");
          if (ours.length === 0) return <Empty title="There is no channel yet"><a class="button primary" href="/channels">Make one</a></Empty>;
          return (
            <form onSubmit={(event) => {
              event.preventDefault();
              save(channel);
            }}>
              <Field label="Name" fault={faultOf(failure, "name") ?? faultOf(failure, "key")}><input required maxLength={256} value={name} onInput={(event) => setName(event.currentTarget.value)} /></Field>
              <Field label="Every"><Select value={every} change={setEvery} options={[["day", "Day"], ["week", "Week"], ["month", "Month"]]} /></Field>
              {every === "week" && <Field label="On"><Select value={weekday} change={setWeekday} options={WEEKDAYS.map((one) => [one, capital(one)] as const)} /></Field>}
              {every === "month" && <Field label="Day" hint="Of a shorter month: its last"><Select value={day} change={setDay} options={DAYS} /></Field>}
              <Field label="At"><Select value={hour} change={setHour} options={HOURS} /></Field>
              <Field label="Zone" fault={faultOf(failure, "schedule")}><input required spellcheck={false} value={timezone} onInput={(event) => setTimezone(event.currentTarget.value)} /></Field>
              <Field label="As"><Select value={format} change={setFormat} options={[["pdf", "PDF"], ["csv", "CSV"]]} /></Field>
              <Field label="To" fault={faultOf(failure, "channel")}><Select value={channel} change={setChannel} options={ours.map((one) => [one.key, one.name || one.key] as const)} /></Field>
              {report !== null && <label class="toggle"><input type="checkbox" checked={enabled} onChange={(event) => setEnabled(event.currentTarget.checked)} /> Send by itself</label>}
              {failure && <Failed error={failure} />}
              <div class="actions"><button type="submit" class="primary">{report === null ? "Schedule" : "Save"}</button><button type="button" onClick={close}>Cancel</button></div>
            </form>
          );
        }}
      </Answered>
    </Dialog>
  );
}
