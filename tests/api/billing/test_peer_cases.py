"""The peers' figures for fees of part of a period, trials, minimums, commitments and changes of plan, from a plan over HTTP to
the invoice. Rows are read out of their tests as numbers (docs/pricing-differences.md); each has a tenant of its own."""

from typing import Any, NamedTuple

import pytest
from tests.api.questions.live import Tenant


class Case(NamedTuple):
    """`fee` for a period; what is on the invoices, oldest first, when billing has run at `at`: charge and rounded amount."""

    source: str
    fee: str
    at: str
    expected: list[dict[str, str]]
    period: str = "month"
    start: str = "2022-01-01T00:01:00Z"
    subscription: dict[str, Any] = {}  # noqa: RUF012
    plan: dict[str, Any] = {}  # noqa: RUF012
    timing: str = "arrears"
    customer: dict[str, Any] = {}  # noqa: RUF012


def fee(*amounts: str) -> list[dict[str, str]]:
    return [{"fee": amount} for amount in amounts]


JUNE, MARCH = "2022-06-22T00:00:00Z", "2022-03-15T00:00:00Z"
CASES = [
    # spec/services/fees/subscription_service
    Case("week, from Monday", "1.00", "2022-06-27T02:00:00Z", fee("1.00"), "week", "2022-06-20T00:01:00Z"),
    Case("week, trial", "1.00", "2022-06-27T02:00:00Z", fee("0.57"), "week", "2022-06-20T00:01:00Z", {"trial_days": 3}),
    Case("week, from Wednesday", "1.00", "2022-06-27T02:00:00Z", fee("0.71"), "week", JUNE),
    Case("week, from Wednesday, trial", "1.00", "2022-06-27T02:00:00Z", fee("0.29"), "week", JUNE, {"trial_days": 3}),
    Case("week, trial into the next", "1.00", "2022-07-04T02:00:00Z", fee("0.43"), "week", JUNE, {"trial_days": 9}),
    Case("month, trial", "1.00", "2022-02-01T02:00:00Z", fee("0.90"), subscription={"trial_days": 3}),
    Case("month, a long trial", "1.00", "2022-02-01T02:00:00Z", fee("0.52"), subscription={"trial_days": 15}),
    Case("month, from the 15th", "1.00", "2022-04-01T02:00:00Z", fee("0.55"), start=MARCH),
    Case("month, from the 15th, trial", "1.00", "2022-04-01T02:00:00Z", fee("0.45"), start=MARCH, subscription={"trial_days": 3}),
    Case("year, from March", "1.00", "2023-01-01T02:00:00Z", fee("0.80"), "year", MARCH),
    Case("year, trial", "1.00", "2023-01-01T02:00:00Z", fee("0.90"), "year", subscription={"trial_days": 35}),
    Case("month, ended on the 20th", "1.00", "2022-04-01T02:00:00Z", fee("0.65"), start="2022-03-01T00:00:00Z",
         subscription={"end": "2022-03-20T10:00:00Z"}),
    Case("week, ended on Wednesday", "1.00", "2022-04-01T02:00:00Z", fee("0.43"), "week", "2022-03-14T00:00:00Z",
         {"end": "2022-03-16T10:00:00Z"}),
    Case("in advance, from the 15th", "1.00", "2022-03-15T02:00:00Z", fee("0.55"), start=MARCH, timing="advance"),
    Case("in advance, week, from Wednesday", "1.00", "2022-06-22T02:00:00Z", fee("0.71"), "week", JUNE, timing="advance"),
    # spec/scenarios/subscriptions/free_trial_billing, multiple_upgrade
    Case("in advance, trial", "50000", "2024-03-15T15:00:00Z", fee("27419.35"), start="2024-03-05T12:12:00Z",
         subscription={"trial_days": 10}, timing="advance"),
    Case("quarter", "910.00", "2024-07-01T02:00:00Z", fee("420.00"), "quarter", "2024-05-20T10:00:00Z"),
    # spec/scenarios/commitments: the fee of the part, the promise of the part less it, two days of 29 and five of seven.
    Case("commitment, month", "6.90", "2024-03-01T02:00:00Z", [{"fee": "0.48", "true_up": "689.18"}], start="2024-02-28T10:00:00Z",
         plan={"commitment": "10000"}),
    Case("commitment, from the 4th", "1000", "2023-03-01T02:00:00Z", [{"fee": "892.86", "true_up": "8035.71"}],
         start="2023-02-04T10:00:00Z", plan={"commitment": {"amount": 10000}}),
    Case("commitment, week", "1000", "2023-02-06T02:00:00Z", [{"fee": "714.29", "true_up": "6428.57"}], "week",
         "2023-02-01T10:00:00Z", plan={"commitment": "10000"}),
    Case("commitment, whole", "100", "2024-06-01T02:00:00Z", [{"fee": "100.00", "true_up": "9900.00"}],
         start="2024-05-01T00:00:00Z", plan={"commitment": "10000"}),
    Case("commitment, nothing else", "0", "2024-05-01T02:00:00Z", [{"fee": "0.00", "true_up": "2.00"}],
         start="2024-04-01T00:00:00Z", plan={"commitment": "2"}),
    Case("commitment, met", "3", "2024-05-01T02:00:00Z", fee("3.00"), start="2024-04-01T00:00:00Z", plan={"commitment": "2"}),
    # billing/worker/subscriptionsync: a month of 31 days that is billed from its 15th on
    Case("OpenMeter, half a month", "5", "2023-02-01T02:00:00Z", fee("2.74"), start="2023-01-15T00:00:00Z"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.source for case in CASES])
def test_a_fee_and_what_is_promised(tenant: Tenant, number: int) -> None:
    case, key = CASES[number], "acme"
    made = tenant.post("/v1/customers", {"key": key, **case.customer})
    assert made.status_code == 201, made.text
    charge = {"key": "fee", "price": {"model": "flat", "amount": case.fee}, "timing": case.timing}
    plan = {"key": key, "currency": "EUR", "billing_period": case.period, "charges": [charge], **case.plan}
    assert tenant.post("/v1/plans", plan).status_code == 201
    assert tenant.post(f"/v1/plans/{key}/publish").status_code == 200
    body = {"customer": key, "plan": key, "start": case.start, **case.subscription}
    subscribed = tenant.post("/v1/subscriptions", body)
    assert subscribed.status_code == 201, subscribed.text
    assert tenant.post("/v1/billing/run", {"at": case.at}).json()["failed"] == []
    made = tenant.answer(f"/v1/invoices?customer={key}")["items"][::-1]
    found = [{line["charge"]: line["rounded"] for line in invoice["lines"]} for invoice in made]
    # A period of which all is free has an invoice without lines, or none.
    assert [lines for lines in found if lines] == case.expected
