"""Random plans × random usage × random corrections, through the whole system: what must hold for every invoice."""

import random
from decimal import Decimal
from typing import Any

import pytest
from tests.api.billing.test_invoices import invoices, preview, run
from tests.api.billing.test_plans import plan, prepared, subscribed
from tests.api.questions.live import Tenant

THRESHOLDS = ["2000", {"amount": "3000", "recurring": True}]
CURRENCIES = ("USD", "JPY", "BHD")


def price(seed: random.Random) -> dict[str, Any]:
    amount = f"{seed.randint(0, 500)}.{seed.randint(0, 999):03d}"
    tiers = [{"up_to": str(seed.randint(1, 60)), "unit_amount": amount, "flat_amount": "3"}]
    open_tier = {"up_to": None, "unit_amount": f"0.{seed.randint(1, 9999):04d}"}
    return seed.choice(
        [
            {"model": "per_unit", "unit_amount": amount},
            {"model": "graduated", "tiers": [*tiers, open_tier]},
            {"model": "volume", "tiers": [*tiers, open_tier]},
            {"model": "package", "package_size": str(seed.randint(1, 20)), "amount": amount},
            {"model": "percentage", "rate": f"{seed.randint(1, 30)}.5", "fixed_amount": "0.1"},
        ]
    )


def charges(seed: random.Random) -> list[dict[str, Any]]:
    return [
        {"key": "base", "price": {"model": "flat", "amount": f"{seed.randint(1, 99)}.99"}},
        *(
            {
                "key": f"u{number}",
                "meter": "tokens",
                "price": price(seed),
                "group_by": seed.choice([[], ["model"]]),
                "tiers": seed.choice(["group", "total"]),
                "minimum": seed.choice([None, "5.005"]),
                "included": seed.choice([None, "7"]),
                "discounts": seed.choice([[], [{"percent": "12.5"}]]),
            }
            for number in range(seed.randint(1, 3))
        ),
    ]


def usage(seed: random.Random, name: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{name}{number}",
            "type": "llm",
            "subject": "acme",
            "time": f"2026-{seed.choice((5, 6)):02d}-{seed.randint(1, 30):02d}T{seed.randint(0, 23):02d}:00:00Z",
            "data": {"n": f"{seed.randint(0, 90)}.{seed.randint(0, 99):02d}", "model": seed.choice("ab")},
        }
        for number in range(count)
    ]


@pytest.mark.parametrize(("number", "late"), [(1, "next_invoice"), (2, "credit_note"), (3, "credit_note")])
def test_sums_previews_and_corrections_agree(tenant: Tenant, number: int, late: str) -> None:
    seed = random.Random(number)
    prepared(tenant)
    plan(tenant, currency=CURRENCIES[number % 3], charges=charges(seed), late=late, thresholds=THRESHOLDS)
    subscribed(tenant, start=f"2026-05-{seed.randint(1, 28):02d}T00:00:00Z", end="2026-08-01T00:00:00Z")
    tenant.record(*usage(seed, "e", 20))
    run(tenant, "2026-05-20T00:00:00Z")
    run(tenant, "2026-05-29T00:00:00Z")
    expected = preview(tenant, at="2026-06-01T00:00:00Z")
    run(tenant, "2026-06-01T01:00:00Z")
    first = invoices(tenant)[-1]
    assert first["lines"] == expected["lines"]
    assert first["total"] == expected["total"]
    tenant.record(*usage(seed, "late", 5))
    retracted = [{"source": "/", "id": f"e{each}"} for each in seed.sample(range(20), 4)]
    assert tenant.post("/v1/events/corrections", {"reason": "r", "retract": retracted}).status_code == 200
    run(tenant, "2026-06-20T00:00:00Z")
    run(tenant, "2026-08-01T01:00:00Z")
    every = invoices(tenant)
    notes = tenant.answer("/v1/credit_notes")["items"]
    for note in notes:
        assert tenant.answer(f"/v1/credit_notes/{note['id']}/verify")["verified"] is True
    # Notes that people make are apart from usage, whatever they give back.
    positive = [one for one in every if Decimal(one["total"]) > 0]
    by_hand = {"reason": "r", "amount": seed.choice(positive)["total"]}
    tenant.post(f"/v1/invoices/{seed.choice(positive)['id']}/credit_notes", by_hand)
    for one in every:
        lines = sum(Decimal(line["rounded"]) for line in one["lines"])
        assert lines == Decimal(one["subtotal"]) == Decimal(one["total"])
        assert tenant.answer(f"/v1/invoices/{one['id']}/verify")["verified"] is True
    # All that was billed is what would have been billed had everything been known from the beginning.
    billed = sum(Decimal(one["total"]) for one in every) - sum(Decimal(note["total"]) for note in notes)
    ends = ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z")
    now = [preview(tenant, at=end)["lines"] for end in ends]
    assert billed == sum(
        Decimal(line["rounded"])
        for lines in now
        for line in lines
        if line["kind"] not in ("late", "progressive")
    )
