"""Invoices as FOCUS 1.0 rows (FinOps Open Cost and Usage Specification): a row for each line, discount and tax.

The BilledCost of an invoice's rows adds up to its total. What the specification asks for and a metering system does not
know (regions, resources, commitment discounts of a cloud) is null. A line that bills a change of an earlier invoice is a
`Correction`; credits that pay are no cost, and no row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tallystick.money import plain, quotient

COLUMNS: tuple[str, ...] = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId",
    "SubAccountName", "Tags", "x_InvoiceId", "x_InvoiceNumber", "x_LineId",
)  # fmt: skip
"""The columns of FOCUS 1.0, in alphabetical order, and ours, with the prefix the specification keeps for that."""

_FREQUENCIES = {
    "usage": "Usage-Based",
    "overage": "Usage-Based",
    "late": "One-Time",
    "item": "One-Time",
    "progressive": "One-Time",
}


@dataclass(frozen=True, slots=True)
class Billed:
    """An invoice with what its document does not say. `document`: the frozen one (billing/invoice.document_of);
    `meters`: the meter and its unit of a line's (plan, version, charge)."""

    id: str
    number: str | None
    customer_name: str
    document: Mapping[str, Any]
    meters: Mapping[tuple[str, int, str], tuple[str, str | None]]


def focus_rows(billed: Billed, *, issuer: str) -> list[dict[str, str]]:
    """The rows of one invoice, every column in each; an empty text is null."""
    document = billed.document
    period = document["period"]
    common = dict.fromkeys(COLUMNS, "") | {
        "BillingAccountId": document["customer"],
        "BillingAccountName": billed.customer_name,
        "BillingCurrency": document["currency"],
        "BillingPeriodStart": period["from"],
        "BillingPeriodEnd": period["to"],
        "ChargePeriodStart": period["from"],
        "ChargePeriodEnd": period["to"],
        "InvoiceIssuerName": issuer,
        "ProviderName": issuer,
        "PublisherName": issuer,
        "ServiceCategory": "Other",
        "ServiceName": issuer,
        "SubAccountId": document["subscription"] or "",
        "Tags": "{}",
        "x_InvoiceId": billed.id,
        "x_InvoiceNumber": billed.number or "",
    }
    rows = [common | _line(line, billed) for line in document["lines"]]
    if Decimal(document["discount"]):
        rows.append(common | _other("Credit", "Discount", plain(-Decimal(document["discount"]))))
    rows += [common | _other("Tax", tax["name"], tax["amount"]) for tax in document["taxes"]]
    return rows


def _line(line: Mapping[str, Any], billed: Billed) -> dict[str, str]:
    cost, kind = line["rounded"], line["kind"]
    meter = billed.meters.get((line["plan"], line["version"], line["charge"]))
    made = {
        **_costs(cost),
        "ChargeCategory": _category(kind, metered=meter is not None),
        "ChargeClass": "Correction" if kind == "late" else "",
        "ChargeDescription": line["name"],
        "ChargeFrequency": _FREQUENCIES.get(kind, "Recurring"),
        "ChargePeriodStart": line["period"]["from"],
        "ChargePeriodEnd": line["period"]["to"],
        "Tags": json.dumps(dict(line["group"]), sort_keys=True, ensure_ascii=False),
        "x_LineId": line["id"],
    }
    if line["plan"]:
        made |= {
            "ServiceName": line["plan"],
            "SkuId": f"{line['plan']}/{line['charge']}",
            "SkuPriceId": f"{line['plan']}/{line['charge']}@{line['version']}",
        }
    quantity = Decimal(line["quantity"])
    if kind in ("late", "progressive") or quantity < 0:
        return made  # a correction needs neither: what is corrected stands in two rows
    unit = "Units" if meter is None else meter[1] or meter[0]
    price = plain(quotient(Decimal(line["amount"]), quantity)) if quantity else ""
    made |= {
        "PricingCategory": "Standard",
        "PricingQuantity": line["quantity"],
        "PricingUnit": unit,
        "ListUnitPrice": price,
        "ContractedUnitPrice": price,
    }
    if meter is not None:
        made |= {"ConsumedQuantity": line["quantity"], "ConsumedUnit": unit}
    return made


def _category(kind: str, *, metered: bool) -> str:
    if kind == "progressive":
        return "Adjustment"
    return "Usage" if metered else "Purchase"


def focus_note_rows(
    noted: Billed, *, invoice: str, period: Mapping[str, str], issuer: str
) -> list[dict[str, str]]:
    """The rows of a credit note, below zero: each line, and each tax. `noted.document`: billing/credit_note.note_of's."""
    note = noted.document
    common = dict.fromkeys(COLUMNS, "") | {
        "BillingAccountId": note["customer"],
        "BillingAccountName": noted.customer_name,
        "BillingCurrency": note["currency"],
        "BillingPeriodStart": period["from"],
        "BillingPeriodEnd": period["to"],
        "ChargePeriodStart": period["from"],
        "ChargePeriodEnd": period["to"],
        "InvoiceIssuerName": issuer,
        "ProviderName": issuer,
        "PublisherName": issuer,
        "ServiceCategory": "Other",
        "ServiceName": issuer,
        "SubAccountId": note["subscription"] or "",
        "Tags": "{}",
        "x_InvoiceId": invoice,
        "x_InvoiceNumber": noted.number or "",
    }
    rows = [
        common
        | _other("Credit", line["name"], plain(-Decimal(line["amount"])))
        | {
            "ChargePeriodStart": line["period"]["from"],
            "ChargePeriodEnd": line["period"]["to"],
            "x_LineId": line["line"],
        }
        for line in note["lines"]
    ]
    rows += [
        common | _other("Tax", tax["name"], plain(-Decimal(tax["amount"])))
        for tax in note["taxes"]
        if Decimal(tax["amount"])
    ]
    return rows


def _other(category: str, name: str, cost: str) -> dict[str, str]:
    return {
        **_costs(cost),
        "ChargeCategory": category,
        "ChargeDescription": name,
        "ChargeFrequency": "One-Time",
    }


def _costs(cost: str) -> dict[str, str]:
    return dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)


def table(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """The rows in the order of `COLUMNS`."""
    return [tuple(row[column] for column in COLUMNS) for row in rows]
