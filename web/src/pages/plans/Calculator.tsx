/** What a quantity costs at a price, step by step. The server rates it as it rates invoices. */

import { useState } from "preact/hooks";
import { parseJson, type AnswerOf, type BodyOf } from "tallystick";
import { asError, useAsk } from "../../ask";
import { Figure } from "../../components/Figure";
import { Field, Select } from "../../components/Form";
import { Answered } from "../../components/States";
import { client } from "../../session";
import { Steps } from "../invoices/LineExplained";

const MODELS: Readonly<Record<string, string>> = {
  graduated: '{"model": "graduated", "tiers": [\n  {"up_to": "1000", "unit_amount": "0.05"},\n  {"up_to": null, "unit_amount": "0.04"}\n]}',
  volume: '{"model": "volume", "tiers": [\n  {"up_to": "1000", "unit_amount": "0.05"},\n  {"up_to": null, "unit_amount": "0.04"}\n]}',
  per_unit: '{"model": "per_unit", "unit_amount": "0.002", "free_units": "100"}',
  flat: '{"model": "flat", "amount": "49"}',
  package: '{"model": "package", "package_size": "1000", "amount": "5"}',
  percentage: '{"model": "percentage", "rate": "1.5", "fixed_amount": "0.25"}',
  graduated_percentage: '{"model": "graduated_percentage", "tiers": [\n  {"up_to": "10000", "rate": "1.5"},\n  {"up_to": null, "rate": "1"}\n]}',
  matrix: '{"model": "matrix", "dimensions": ["model"], "cells": [\n  {"values": ["large"], "unit_amount": "0.01"},\n  {"values": ["small"], "unit_amount": "0.002"}\n]}',
};

export interface Choice {
  name: string;
  price: string;
  currency: string;
}

/** `choices`: prices of a plan to begin with; otherwise one of each model. */
export function Calculator({ choices }: { choices?: readonly Choice[] }) {
  const all = choices ?? Object.entries(MODELS).map(([name, price]) => ({ name: name.replaceAll("_", " "), price, currency: "USD" }));
  const [chosen, setChosen] = useState("0");
  const [price, setPrice] = useState(all[0]?.price ?? "");
  const [currency, setCurrency] = useState(all[0]?.currency ?? "USD");
  const [quantity, setQuantity] = useState("1200");
  const [dimensions, setDimensions] = useState("");
  const read = bodyOf(price, quantity, currency, dimensions);
  const question = read instanceof Error ? null : JSON.stringify([price, quantity, currency, dimensions]);
  const asked = useAsk(question, async (signal): Promise<AnswerOf<"POST /v1/prices/evaluate">> => {
    await new Promise((resolve) => setTimeout(resolve, 150)); // while it is being typed
    signal.throwIfAborted();
    return client.call("POST /v1/prices/evaluate", { body: read as BodyOf<"POST /v1/prices/evaluate">, signal });
  });
  return (
    <section class="panel calculator">
      <header><h2>Calculator</h2></header>
      <div class="columns">
        <div class="form">
          <Field label="Price"><Select value={chosen} options={all.map((one, index) => [String(index), one.name] as const)} change={(value) => {
            const found = all.find((_, index) => String(index) === value);
            setChosen(value);
            setPrice(found?.price ?? "");
            setCurrency(found?.currency ?? currency);
          }} /></Field>
          <Field label="As JSON" fault={read instanceof Error ? read.message : undefined}><textarea rows={Math.min(14, Math.max(4, price.split("\n").length + 1))} spellcheck={false} value={price} onInput={(event) => setPrice(event.currentTarget.value)} /></Field>
          <div class="controls">
            <Field label="Quantity"><input inputmode="decimal" spellcheck={false} value={quantity} onInput={(event) => setQuantity(event.currentTarget.value)} /></Field>
            <Field label="Currency"><input spellcheck={false} value={currency} onInput={(event) => setCurrency(event.currentTarget.value)} /></Field>
            <Field label="Dimensions" hint="model = large, region = eu"><input spellcheck={false} value={dimensions} onInput={(event) => setDimensions(event.currentTarget.value)} /></Field>
          </div>
        </div>
        <div class="result" aria-live="polite">
          {question === null ? <p class="muted">The price is no JSON yet.</p> : (
            <Answered of={asked} what="Rating">
              {(answer) => (
                <>
                  <p class="big"><Figure value={answer.rounded} unit={answer.currency} /></p>
                  <p class="muted">Exactly <Figure value={answer.amount} /></p>
                  {answer.steps.length > 0 && <Steps steps={answer.steps as never} />}
                </>
              )}
            </Answered>
          )}
        </div>
      </div>
    </section>
  );
}

function bodyOf(price: string, quantity: string, currency: string, dimensions: string): unknown {
  let read: unknown;
  try {
    read = parseJson(price);
  } catch (error) {
    return asError(error);
  }
  const parts = dimensions.split(",").map((one) => one.split("=")).filter((one) => one.length === 2);
  const named = Object.fromEntries(parts.map(([name = "", value = ""]) => [name.trim(), value.trim()]));
  return { price: read, quantity: quantity.trim(), currency: currency.trim(), ...(parts.length === 0 ? {} : { dimensions: named }) };
}
