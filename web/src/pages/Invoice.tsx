import { useState } from "preact/hooks";
import type { AnswerOf } from "tallystick";
import { asError } from "../ask";
import { Confirm } from "../components/Confirm";
import { Answered, Failed } from "../components/States";
import { client, may } from "../session";
import { InvoiceDocument, InvoiceFiles, useInvoice, type Invoice } from "./invoices/InvoiceDocument";

type Verified = AnswerOf<"GET /v1/invoices/{id}/verify">;

export function InvoicePage({ parameters }: { parameters: Record<string, string> }) {
  const id = parameters["id"] ?? "";
  const asked = useInvoice(id);
  const [asking, setAsking] = useState<"finalize" | "void" | null>(null);
  const [verified, setVerified] = useState<Verified | null>(null);
  const [failure, setFailure] = useState<Error | null>(null);
  const verify = (): void => {
    setFailure(null);
    client.call("GET /v1/invoices/{id}/verify", { path: { id } }).then(setVerified, (error: unknown) => setFailure(asError(error)));
  };
  return (
    <main id="main" class="page">
      <p class="crumbs"><a href="/invoices">Invoices</a></p>
      {asked.answer === null && <h1>Invoice</h1>}
      <Answered of={asked}>
        {(answer) => {
          const invoice = answer as unknown as Invoice;
          return (
            <>
              <header class="page-head">
                <h1>{invoice.number === null ? "Invoice, not final yet" : `Invoice ${invoice.number}`}</h1>
                <div class="actions">
                  <InvoiceFiles invoice={invoice} />
                  <button type="button" onClick={verify}>Compute again</button>
                  {may("billing:write") && invoice.status === "grace" && <button type="button" class="primary" onClick={() => setAsking("finalize")}>Finalize…</button>}
                  {may("billing:write") && invoice.status !== "void" && <button type="button" class="danger" onClick={() => setAsking("void")}>Void…</button>}
                </div>
              </header>
              <p class="crumbs">For <a href={`/customers/${encodeURIComponent(invoice.customer)}`}>{invoice.customer}</a>{invoice.plans.length > 0 && <>, {invoice.plans.join(", ")}</>}</p>
              {failure && <Failed error={failure} />}
              {verified !== null && (
                <p class="note" role="status">{verified.verified ? "Computed again from the facts as they were known then: the same, byte for byte." : `Computed again, it differs in ${verified.differences.map((one) => one.place).join(", ")}.`}</p>
              )}
              <InvoiceDocument invoice={invoice} />
              {asking !== null && (
                <Confirm
                  title={asking === "finalize" ? "Finalize this invoice?" : `Void invoice ${invoice.number ?? ""}?`}
                  verb={asking === "finalize" ? "Finalize" : "Void"}
                  danger={asking === "void"}
                  work={() => (asking === "finalize" ? client.invoices.finalize(id) : client.invoices.void(id))}
                  close={(done) => {
                    setAsking(null);
                    setVerified(null);
                    if (done) asked.again();
                  }}
                >
                  <p>{asking === "finalize" ? "It gets its number, and never changes after that. What comes later is on the next one." : "It asks for nothing any more. This cannot be taken back."}</p>
                </Confirm>
              )}
            </>
          );
        }}
      </Answered>
    </main>
  );
}
