/** A price as people read it; what has no such form is shown as it is configured. */

import type { ComponentChildren } from "preact";
import { Figure } from "../../components/Figure";
import { Json } from "../../components/Json";
import { isZero } from "../../decimal";

type Members = Readonly<Record<string, unknown>>;

export function Price({ of: price, currency, label }: { of: unknown; currency: string; label: string }) {
  const said = isMembers(price) ? saidOf(price, currency) : null;
  return said === null ? <Json value={price} label={label} /> : <div class="price">{said}</div>;
}

/** Null: not known here. Members that a model has beside those below would otherwise be hidden. */
function saidOf(price: Members, currency: string): ComponentChildren | null {
  const said = MODELS[String(price["model"])];
  if (said === undefined) return null;
  const unsaid = Object.entries(price).some(([name, value]) => name !== "model" && !said.members.includes(name) && !isNothing(value));
  return unsaid ? null : said.say(price, currency);
}

const MODELS: Readonly<Record<string, { members: readonly string[]; say: (price: Members, currency: string) => ComponentChildren | null }>> = {
  flat: { members: ["amount"], say: (price, currency) => <>{money(price["amount"], currency)}, whatever the quantity</> },
  per_unit: { members: ["unit_amount", "free_units"], say: (price, currency) => <>{money(price["unit_amount"], currency)} each{after(price["free_units"])}</> },
  package: {
    members: ["amount", "package_size", "free_units"],
    say: (price, currency) => <>{money(price["amount"], currency)} for every <Figure value={text(price["package_size"])} /> begun{after(price["free_units"])}</>,
  },
  percentage: {
    members: ["rate", "fixed_amount"],
    say: (price, currency) => <><Figure value={text(price["rate"])} unit="%" /> of the amount{isNothing(price["fixed_amount"]) ? null : <>, and {money(price["fixed_amount"], currency)} a transaction</>}</>,
  },
  graduated: { members: ["tiers"], say: (price, currency) => tiers(price["tiers"], "Each tier at its own price", (tier) => <>{money(tier["unit_amount"], currency)} each</>, currency) },
  volume: { members: ["tiers"], say: (price, currency) => tiers(price["tiers"], "All at the price of the tier reached", (tier) => <>{money(tier["unit_amount"], currency)} each</>, currency) },
  graduated_percentage: { members: ["tiers"], say: (price, currency) => tiers(price["tiers"], "Each tier at its own rate", (tier) => <Figure value={text(tier["rate"])} unit="%" />, currency) },
};

function tiers(value: unknown, how: string, each: (tier: Members) => ComponentChildren, currency: string): ComponentChildren | null {
  if (!Array.isArray(value) || !value.every(isMembers)) return null;
  if (value.some((tier) => Object.keys(tier).some((name) => !["up_to", "unit_amount", "flat_amount", "rate"].includes(name)))) return null;
  const all: readonly Members[] = value;
  return (
    <>
      {how}
      <ul>
        {all.map((tier, index) => {
          const [below, to] = [all[index - 1]?.["up_to"], tier["up_to"]];
          return (
            <li key={index}>
              {isNothing(below) ? null : <>above <Figure value={text(below)} /></>}
              {to === null || to === undefined ? (index === 0 ? "any quantity" : null) : <>{index > 0 && " "}up to <Figure value={text(to)} /></>}
              : {each(tier)}{isNothing(tier["flat_amount"]) ? null : <>, and {money(tier["flat_amount"], currency)} once</>}
            </li>
          );
        })}
      </ul>
    </>
  );
}

function money(value: unknown, currency: string): ComponentChildren {
  return <Figure value={text(value)} unit={currency} />;
}

function after(free: unknown): ComponentChildren {
  return isNothing(free) ? null : <>, after the first <Figure value={text(free)} /></>;
}

function text(value: unknown): string {
  return String(value ?? "");
}

function isNothing(value: unknown): boolean {
  return value === null || value === undefined || (/^-?\d+(\.\d+)?$/.test(text(value)) && isZero(text(value)));
}

function isMembers(value: unknown): value is Members {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
