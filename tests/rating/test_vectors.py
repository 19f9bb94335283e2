"""Figures that Lago and OpenMeter hold themselves to, through our rating, periods and proration.

Every case is run here, or stands in docs/pricing-differences.md with the reason; the last test holds that page complete.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tallystick.billing.period import Cadence, Length, Period, Unit, parse_length
from tallystick.billing.proration import Change, ProrateBy, Share, levels, share
from tallystick.money import round_money, split_money
from tallystick.rating.adjustments import Adjustments, Discount, before_price
from tallystick.rating.commitment import Commitment, settle
from tallystick.rating.model import Rated, Usage
from tallystick.rating.price import Price, parse_price
from tallystick.rating.rate import Level, increments, rate, rate_levels, rate_part
from tallystick.rating.unit import Conversion

ROOT = Path(__file__).parents[2]
VECTORS = ROOT.parent / "shared" / "vectors"
DIFFERENCES = ROOT / "docs" / "pricing-differences.md"
D = Decimal

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors of ../shared are not beside this checkout"),
]


def vectors(file: str) -> dict[str, Any]:
    if not VECTORS.is_dir():
        return {}
    return {one["id"]: one for one in json.loads((VECTORS / file).read_text())["vectors"]}


LAGO, OPENMETER = vectors("lago.json"), vectors("openmeter.json")
RATING_AREAS = {
    "charge_model", "charge_model_tier", "current_usage", "current_usage_sequence", "estimate_instant", "fixed_charge",
    "commitment", "minimum_spend", "subscription_proration", "proration_upgrade", "pay_in_advance_delta", "pricing_unit",
    "billing_period", "rounding", "aggregation_prorated",
    "graduated", "graduated_max", "volume", "volume_min_max", "unit", "unit_discount", "package", "dynamic", "flat",
    "unit_config", "usage_discount", "proration", "invoice_progressive", "invoice", "recurrence", "llm_cost",
}  # fmt: skip


def price(model: str, **members: Any) -> Price:
    return parse_price({"model": model, **members})


def us(text: str) -> int:
    text = text if "T" in text else text + "T00:00:00Z"
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def cents(amount: Decimal) -> int:
    return int(round_money(amount, "USD").scaleb(2))


def lago_price(model: str, props: dict[str, Any]) -> Price:
    if model == "standard":
        return price("per_unit", unit_amount=props["amount"])
    if model == "package":
        return price(
            "package",
            package_size=props["package_size"],
            amount=props["amount"],
            free_units=props["free_units"],
        )
    if model.startswith("percentage"):
        return price(
            "percentage",
            rate=props["rate"],
            fixed_amount=props.get("fixed"),
            free_transactions=props.get("free_events"),
            free_amount=props.get("free_total"),
            min_per_transaction=props.get("tx_min"),
            max_per_transaction=props.get("tx_max"),
        )
    rate_name = "rate" if model == "graduated_percentage" else "unit_amount"
    tiers = [
        {
            "up_to": tier["to"],
            rate_name: tier["rate_pct"] if "rate_pct" in tier else tier["per_unit"],
            "flat_amount": tier["flat"],
        }
        for tier in props["tiers"]
    ]
    return price(model.removeprefix("prorated_"), tiers=tiers)


def transactions(values: Sequence[str]) -> list[Usage]:
    return [Usage.of_transactions([D(value) for value in values])]


def check_sum(rated: Rated) -> Decimal:
    assert sum((Fraction(step.amount) for step in rated.steps), Fraction(0)) == Fraction(rated.amount)
    return rated.amount


# -- Lago -------------------------------------------------------------------------------------------------------------
def run_charge(given: dict[str, Any], expect: dict[str, Any]) -> None:
    one = lago_price(given["model"], given.get("props", given))
    parts = transactions(given["events"]) if "events" in given else [Usage.of(given["units"])]
    rated = rate(one, parts)
    amount = check_sum(rated)
    if "amount" in expect:
        assert amount == D(expect["amount"])
    if "amount_cents" in expect and isinstance(expect["amount_cents"], int):
        assert cents(amount) == expect["amount_cents"]
    if "per_tier_total" in expect:
        assert [step.amount for step in rated.tiers] == [D(text) for text in expect["per_tier_total"]]
    if "per_tier_units" in expect:
        assert [step.quantity for step in rated.tiers] == [D(text) for text in expect["per_tier_units"]]
    if "flat" in expect:
        assert rated.tiers[0].flat_amount == D(expect["flat"])
        assert amount - D(expect["flat"]) == D(expect["per_unit_total"])
    by_kind = {step.kind: step for step in rated.steps}
    if "percentage_part" in expect:
        assert by_kind["percent"].amount == D(expect["percentage_part"])
        assert by_kind["fixed"].amount == D(expect.get("fixed_part", "0"))
    if "paid_units" in expect and "percent" in by_kind:
        assert by_kind["percent"].quantity == D(expect["paid_units"])
    if "paid_events" in expect:
        assert by_kind["fixed"].quantity == expect["paid_events"]
    if "total_with_tax_cents" in expect and isinstance(expect["total_with_tax_cents"], int):
        tax = round_money(D(expect["amount_cents"]) * D(given["tax_pct"]) / 10000, "USD")
        assert cents(tax) + expect["amount_cents"] == expect["total_with_tax_cents"]


def run_tier(given: dict[str, Any], expect: dict[str, Any]) -> None:
    tier = given["tier"]
    name = "rate_pct" if "rate_pct" in tier else "per_unit"
    model = "graduated_percentage" if "rate_pct" in tier else "graduated"
    begin = D(tier["from"]) - (0 if given.get("adjacent") or tier["from"] == "0" else 1)
    tiers = [{"to": tier["to"], name: tier[name], "flat": tier["flat"]}, {"to": None, name: "0", "flat": "0"}]
    if begin > 0:
        tiers.insert(0, {"to": str(begin), name: "0", "flat": "0"})
    found = next(
        step
        for step in rate(lago_price(model, {"tiers": tiers}), [Usage.of(given["total_units"])]).tiers
        if step.above == begin
    )
    assert found.quantity == D(expect["units"])
    assert found.amount == D(expect["total"])
    assert found.flat_amount is not None
    assert found.amount - found.flat_amount == D(expect["per_unit_total"])


def run_sequence(given: dict[str, Any], expect: dict[str, Any]) -> None:
    """What is shown after each event: transactions one after the other."""
    one = lago_price(given["model"], given["props"])
    for count, expected in enumerate(expect["amount_cents"], 1):
        assert cents(check_sum(rate(one, transactions(given["events"][:count])))) == expected


def held(given: dict[str, Any], events: list[Any], days: int) -> tuple[Level, ...]:
    """The level over a month of so many days, from what was there and what changed: by day, ours."""
    whole = given["full_days"]
    first = us(events[0][0][:8] + "01") if events else us("2023-12-01")
    period = Period(first, first + whole * 86_400_000_000)
    part = period.cut(None, first + days * 86_400_000_000)
    start = given.get("persisted", 0)
    level = D(len(start)) if isinstance(start, list) else D(start)
    changes = [Change(first, level)]
    for event in events:
        by = D({"add": 1, "remove": -1}[event[2]]) if len(event) == 3 else D(event[1])
        level += by
        # Ids come and go within a day, which then counts; sums change at its beginning (both Lago's rule).
        noon = 43_200_000_000 if len(event) == 3 else 0
        changes.append(Change(us(event[0]) + noon, level))
    assert part is not None
    return levels(period, part, changes, by=ProrateBy.DAY, timezone="UTC")


def run_levels(given: dict[str, Any], expect: dict[str, Any]) -> None:
    one = lago_price(given["model"], given["props"])
    if "amount_cents_start" in expect:
        assert (
            cents(check_sum(rate_levels(one, held(given, [], given["full_days"]))))
            == expect["amount_cents_start"]
        )
    for count, expected in enumerate(expect["amount_cents"], 1):
        rated = rate_levels(one, held(given, given["events"][:count], given["full_days"]))
        assert cents(check_sum(rated)) == expected
    if "termination_invoice_cents" in expect:
        days = int(given["terminated_on"][8:])
        assert (
            cents(rate_levels(one, held(given, given["events"], days)).amount)
            == expect["termination_invoice_cents"]
        )
    if "next_month_cents" in expect:
        count = sum(1 if event[2] == "add" else -1 for event in given["events"])
        assert cents(rate_levels(one, [Level(D(count), 1, 1)]).amount) == expect["next_month_cents"]


def run_prorated_events(given: dict[str, Any], expect: dict[str, Any]) -> None:
    """Units that each came at a moment, of which their prorated units tell the share that was left."""
    one = lago_price(given["model"], given["props"])
    shares = [
        Fraction(prorated) / Fraction(units)
        for units, prorated in zip(given["event_units"], given["event_prorated_units"], strict=True)
    ]
    runs: list[Level] = []
    level = D(0)
    for index, units in enumerate(given["event_units"]):
        level += D(units)
        length = shares[index] - (shares[index + 1] if index + 1 < len(shares) else 0)
        runs.append(Level(max(D(0), level), length.numerator, length.denominator))
    amount = check_sum(rate_levels(one, runs or [Level(D(0), 1, 1)]))
    assert amount == D(expect["amount"])


def run_minimum(given: dict[str, Any], expect: dict[str, Any]) -> None:
    scale = D(100)
    minimum = Share(given["days"], given["period_days"]).of(D(given["min_cents"]) / scale)
    unit = (
        {"unit": {"name": "credit", "amount": given["pricing_unit_rate"]}}
        if "pricing_unit_rate" in given
        else {}
    )
    one = price("per_unit", unit_amount="0.01", **unit)
    rated = rate(one, [Usage.of(given["used_cents"])], Adjustments(minimum=minimum))
    worth = one.unit.worth if one.unit else lambda amount: amount
    due = worth(next(step.amount for step in rated.steps if step.kind == "minimum"))
    assert cents(due) == expect["true_up_cents"]


def run_commitment(given: dict[str, Any], expect: dict[str, Any]) -> None:
    due = Share(given.get("days", 1), given.get("period_days", 1)).of(D(given["commitment_cents"]) / 100)
    rated = settle(
        Commitment(D(given["commitment_cents"]) / 100), [D(fee) / 100 for fee in given["fees"]], due=due
    )
    assert cents(rated.amount) == expect["true_up_cents"]


def run_subscription_fee(given: dict[str, Any], expect: dict[str, Any]) -> None:
    found = Share(given["days_billed"], given["period_days"])
    precise = found.of(D(given["plan"]))
    assert cents(precise / 100) == expect["amount_cents"]
    if "precise_cents" in expect:
        assert abs(precise - D(expect["precise_cents"])) < D("1e-12")
    names = {"monthly": "month", "weekly": "week", "yearly": "year"}
    if "start" in given:
        cadence = Cadence(parse_length(names[given["interval"]]) or Length(Unit.MONTH, 1), "Europe/Berlin")
        berlin = us(given["start"] + "T13:00:00+01:00")
        period = cadence.period_at(berlin)
        part = period.cut(berlin + given.get("trial_days", 0) * 86_400_000_000, None)
        assert share(period, part, by=ProrateBy.DAY, timezone="Europe/Berlin") == found


def run_fixed(given: dict[str, Any], expect: dict[str, Any]) -> None:
    one = lago_price(given["model"], given)
    amount = rate(one, [Usage.of(given["units"])]).amount
    if given["prorated"]:
        amount = Share(given["days"], given["period_days"]).of(amount)
    assert cents(amount) == expect["amount_cents"]


def run_period(given: dict[str, Any], expect: dict[str, Any]) -> None:
    anchor = us(given["anchor"]) if given["billing"] == "anniversary" else None
    cadence = Cadence(Length(Unit.MONTH, 1), given.get("tz", "UTC"), anchor)
    period = cadence.period_at(us(given["at"]))
    # They ask on the day of billing, which for charges in arrears is the day after the period.
    if not given.get("pay_in_advance") and "terminated" not in given:
        period = cadence.before(period)
    if "start" in expect or given.get("anchor") == "2021-03-31":
        assert period.from_us == us(expect.get("start", given["at"]))
    if "end" in expect:
        assert period.to_us == us(expect["end"]) + 1_000_000


def run_advance(given: dict[str, Any], expect: dict[str, Any]) -> None:
    """What each event costs when it happens: with it less without it."""
    if "ops" in given:
        present: set[str] = set()
        changes: list[Decimal] = []
        for text in given["ops"]:
            name, what = text.split()
            changes.append(D((name not in present) if what == "add" else -(name in present)))
            present ^= {name} if changes[-1] else set()
        values = increments(changes)
    elif given["agg"] == "count":
        values = tuple(D(1) for _ in given["events"])
    else:
        values = increments([D(event) for event in given["events"]])
    one = lago_price(given["model"], given["props"])
    if given["model"] == "percentage":
        parts = [Usage.of_transactions([value]) for value in values]
    else:
        parts = [Usage(value) for value in values]
    fees = [cents(rate_part(one, parts[:index] or None, [part]).amount) for index, part in enumerate(parts)]
    assert fees == expect["fee_cents"]


def run_rounding(given: dict[str, Any], expect: dict[str, Any]) -> None:
    way = {"round": "half_up", "ceil": "up", "floor": "down", None: None}[given["function"]]
    assert Conversion(round=way, precision=given["precision"] or 0).apply(D(given["units"])) == D(
        expect["units"]
    )


def run_dynamic(given: dict[str, Any], expect: dict[str, Any]) -> None:
    """The meter sums the amounts; the price passes them on."""
    amount = D(given["precise_total_amount_cents"]) / 100
    assert rate(price("percentage", rate="100"), [Usage(amount)]).amount == D(expect["amount"])


def run_instant(given: dict[str, Any], expect: dict[str, Any]) -> None:
    amount = rate(lago_price("percentage", given["props"]), transactions([given["units"]])).amount
    assert amount == D(expect["amount"])


def run_custom_unit(given: dict[str, Any], expect: dict[str, Any]) -> None:
    one = price(
        "per_unit", unit_amount=given["amount"], unit={"name": "credit", "amount": given["conversion_rate"]}
    )
    rated = rate(one, [Usage.of(given["units"])])
    assert (cents(rated.amount), cents(rated.steps[0].amount)) == (
        expect["amount_cents"],
        expect["pricing_unit_cents"],
    )


def run_filtered(given: dict[str, Any], expect: dict[str, Any]) -> None:
    cells = [{"values": [one["region"]], "unit_amount": one["amount"]} for one in given["filters"]]
    one = price("matrix", dimensions=["region"], cells=cells, default=given["default_amount"])
    amount = rate(one, [Usage.of(given["event"]["v"], region=given["event"]["region"])]).amount
    assert [cents(amount)] == expect["fee_cents"]


def run_level_advance(given: dict[str, Any], expect: dict[str, Any]) -> None:
    """What comes above the highest level so far, for the days that are left; theirs is rounded up to 5 decimals."""
    before = [D(given["max_before"]), D(given["current_before"]) - D(given["max_before"])]
    billed = increments([*before, D(given["event"])])[-1]
    units = Share(given.get("days_left", 1), given.get("full_days", 1)).of(billed)
    assert units.quantize(D("0.00001"), rounding=ROUND_CEILING) == D(expect["units"])


def run_prorated_units(given: dict[str, Any], expect: dict[str, Any]) -> None:
    """Units weighted by the days they were held; theirs are rounded up to 5 decimals, ours are not rounded."""
    begin, end = (us(text) for text in given["period"])
    end += 1_000_000 if "T" in given["period"][1] else 86_400_000_000
    whole = Period(begin, begin + given["full_days"] * 86_400_000_000)
    part = Period(begin, end)
    series: dict[str, list[Change]] = {}
    for at, name, what in given.get("ops", ()):
        series.setdefault(name, []).append(Change(us(at), D(what == "add")))
    if "ops" not in given:
        level = D(given.get("persisted", "0"))
        series[""] = [Change(begin, level)]
        for event in given["events"]:
            at, by = (event["at"], event["value"]) if isinstance(event, dict) else event
            level += D(by)
            series[""].append(Change(us(at), level))
    units = Fraction(0)
    for changes in series.values():
        changes.sort(key=lambda change: change.at_us)
        for one in levels(whole, part, changes, by=ProrateBy.DAY, timezone="UTC"):
            units += Fraction(one.quantity) * Fraction(one.numerator, one.denominator)
    exact = D(units.numerator) / D(units.denominator)
    if "rounding" in given:
        assert Conversion(round="up", precision=given["rounding"][1]).apply(exact) == D(expect["units"])
    elif "units" in expect:
        assert exact.quantize(D("0.00001"), rounding=ROUND_CEILING) == D(expect["units"])
    else:
        digits = next(name for name in expect if name.startswith("units_round"))[-1]
        assert round(exact, int(digits)) == D(expect[digits_name(digits)])


def digits_name(digits: str) -> str:
    return f"units_round{digits}"


LAGO_SPECIAL: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    "dyn-1": run_dynamic,
    "pia-filter-1": run_filtered,
    "sumpro-adv-3": run_level_advance,
    "sumpro-adv-4": run_level_advance,
    **dict.fromkeys(["pgrad-10", "pgrad-11", "pgrad-2", "pgrad-7"], run_prorated_events),
    **dict.fromkeys(
        ["seq-pgrad-1", "seq-pgrad-3", "seq-pgrad-4", "seq-pgrad-uniq-2", "seq-pgrad-uniq-3"], run_levels
    ),
}
LAGO_BY_AREA = {
    "charge_model": run_charge,
    "current_usage": run_charge,
    "charge_model_tier": run_tier,
    "current_usage_sequence": run_sequence,
    "estimate_instant": run_instant,
    "fixed_charge": run_fixed,
    "commitment": run_commitment,
    "minimum_spend": run_minimum,
    "subscription_proration": run_subscription_fee,
    "pay_in_advance_delta": run_advance,
    "pricing_unit": run_custom_unit,
    "billing_period": run_period,
    "rounding": run_rounding,
    "aggregation_prorated": run_prorated_units,
}


def listed() -> set[str]:
    """The cases that the page of differences names."""
    return set(re.findall(r"`([A-Za-z0-9.-]+)`", DIFFERENCES.read_text())) if DIFFERENCES.is_file() else set()


def lago_cases() -> Iterator[str]:
    different = listed()
    for name, one in LAGO.items():
        if one["area"] in RATING_AREAS and name not in different:
            yield name


@pytest.mark.parametrize("name", list(lago_cases()))
def test_lago(name: str) -> None:
    one = LAGO[name]
    run = LAGO_SPECIAL.get(name) or LAGO_BY_AREA[one["area"]]
    run(one["given"], one["expect"])


# -- OpenMeter ----------------------------------------------------------------------------------------------------
def tiered(model: str, tiers: list[dict[str, Any]]) -> Price:
    return price(
        model,
        tiers=[
            {"up_to": tier["to"], "unit_amount": tier.get("unit", "0"), "flat_amount": tier.get("flat", "0")}
            for tier in tiers
        ],
    )


def q(value: Any) -> Decimal:
    return D(str(value))


def part_of(one: Price, case: dict[str, Any], **adjusted: Any) -> Rated:
    before = [Usage(q(case["qty_before"]))] if "qty_before" in case else None
    return rate_part(
        one, before, [Usage(q(case["qty"]))], Adjustments(**adjusted), last=case.get("line") != "mid"
    )


def om_graduated(given: Any, expect: Any) -> None:
    adjusted = {"maximum": q(given["max"])} if "max" in given else {}
    rated = part_of(tiered("graduated", given["tiers"]), given, **adjusted)
    assert check_sum(rated) == q(expect["total"])
    if "qty_before" not in given:
        # Theirs names flat and unit amounts apart, and a first one of nothing.
        assert [step.amount for step in rated.tiers] == [q(amount) for amount in expect["amounts"][1:]]
    elif not adjusted:
        assert [step.amount for step in rated.tiers] == [q(amount) for amount in expect["amounts"]]


def om_volume(given: Any, expect: Any) -> None:
    one = tiered("volume", given["tiers"])
    assert [rate(one, [Usage(q(quantity))]).amount for quantity in given["qty"]] == [
        q(x) for x in expect["total"]
    ]


def om_volume_limits(given: Any, expect: Any) -> None:
    one = tiered("volume", given["tiers"])
    for case, total, extra in zip(given["cases"], expect["total"], expect["extra_or_discount"], strict=True):
        adjusted = {"minimum": q(case["min"])} if "min" in case else {"maximum": q(case["max"])}
        rated = rate(one, [Usage(q(case["qty"]))], Adjustments(**adjusted))
        assert check_sum(rated) == total
        assert sum(step.amount for step in rated.steps if step.kind in ("minimum", "maximum")) == extra


def om_unit(given: Any, expect: Any) -> None:
    for case, total in zip(given["cases"], expect["total"], strict=True):
        names = {"min": "minimum", "max": "maximum"}
        adjusted = {names[name]: q(case[name]) for name in names if name in case}
        assert check_sum(part_of(price("per_unit", unit_amount=case["unit"]), case, **adjusted)) == total


def om_unit_discount(given: Any, expect: Any) -> None:
    one = price("per_unit", unit_amount=given["unit"])
    discounts = (Discount(percent=q(given["discount_pct"])),)
    rated = part_of(one, given, maximum=q(given["max"]), discounts=discounts)
    assert check_sum(rated) == expect["total"]
    assert [-step.amount for step in rated.steps if step.kind != "units"] == expect["discounts"]


def om_package(given: Any, expect: Any) -> None:
    one = price("package", package_size=given["package_size"], amount=given["price"])
    for case, total in zip(given["cases"], expect["total"], strict=True):
        adjusted = {"maximum": q(case["max"])} if "max" in case else {}
        assert check_sum(part_of(one, case, **adjusted)) == total


def om_dynamic(given: Any, expect: Any) -> None:
    one = price("per_unit", unit_amount=str(given["multiplier"]))
    first, second = given["cases"]
    assert round_money(part_of(one, first).amount, "USD") == q(expect["total"][0])
    whole = rate(one, [Usage(q(second["qty_before"] + second["qty"]))], Adjustments(maximum=q(second["max"])))
    assert round_money(whole.amount, "USD") - q(second["billed_before"]) == q(expect["total"][1])


def om_unit_config(given: Any, expect: Any) -> None:
    ways = {None: None, "ceiling": "up", "floor": "down", "half_up": "half_up"}
    for (quantity, way), converted in zip(given["cases"], expect["converted"], strict=True):
        assert Conversion(divide=q(given["divide"]), round=ways[way]).apply(q(quantity)) == q(converted)


def om_unit_config_rated(given: Any, expect: Any) -> None:
    tiers = [{"up_to": one["to"], "unit_amount": str(one["unit"])} for one in given["tiers"]]
    one = price("graduated", tiers=tiers, convert={"divide": given["divide"], "round": "up"})
    rated = rate(one, [Usage(q(given["qty"]))])
    assert (rated.steps[0].quantity, rated.amount) == (expect["units"], q(expect["total"]))


def om_free_units(given: Any, expect: Any) -> None:
    adjusted = Adjustments(discounts=(Discount(units=q(given["free_units"])),))
    for case, billable in zip(given["cases"], expect["billable"], strict=True):
        (before,), _ = before_price([Usage(q(case["qty_before"]))], adjusted)
        (after,), _ = before_price([Usage(q(case["qty_before"] + case["qty"]))], adjusted)
        assert (before.quantity, after.quantity - before.quantity) == (
            billable["qty_before"],
            billable["qty"],
        )


def om_edit(given: Any, expect: Any) -> None:
    days, month = given["edit"]["after_days"], given["month_days"]
    old = Share(days, month).of(q(given["monthly_in_advance"]))
    new = Share(month - days, month).of(q(given["edit"]["new_price"]))
    assert (round_money(old, "USD"), round_money(new, "USD")) == (
        q(expect["old_line"]),
        q(expect["new_line"]),
    )


def om_parts(given: Any, expect: Any) -> None:
    parts = [D(days) for days in given["parts_days"]]
    assert list(split_money(q(given["monthly"]), parts, "USD")) == [q(line) for line in expect["lines"]]


def om_invoice(given: Any, expect: Any) -> None:
    lines = OPENMETER["I05"]["input"]["lines"]
    unit = rate(
        price("per_unit", unit_amount=100), [Usage(q(given["unit_qty"]))], Adjustments(maximum=q(2000))
    )
    graduated = rate(tiered("graduated", lines["graduated"]), [Usage(q(given["graduated_qty"]))])
    minimum = Adjustments(minimum=q(lines["volume"]["min"]))
    volume = rate(tiered("volume", lines["volume"]["tiers"]), [Usage(q(given["volume_qty"]))], minimum)
    flat = rate(price("flat", amount=lines["flat_arrears"]), [])
    assert [step.amount for step in unit.steps] == expect["unit"]
    assert (graduated.amount, volume.amount, flat.amount) == (
        expect["graduated"],
        expect["volume"],
        expect["flat"],
    )
    assert unit.amount + graduated.amount + volume.amount + flat.amount == expect["total"]


def om_progressive(given: Any, expect: Any) -> None:
    lines, part, final = given["lines"], given["final_part"], expect["final"]
    unit = part_of(
        price("per_unit", unit_amount=lines["unit"]["unit"]),
        {"qty_before": part["unit_qty_already_billed"], "qty": part["unit_add"]},
        maximum=q(lines["unit"]["max"]),
    )
    gross = {step.kind: step.amount for step in unit.steps}
    assert (gross["units"], -gross["maximum"]) == (final["unit_gross"], final["unit_discount"])
    graduated = part_of(
        tiered("graduated", lines["graduated"]),
        {"qty_before": part["graduated_before"], "qty": part["graduated_add"]},
    )
    assert [step.amount for step in graduated.steps] == final["graduated"]
    limits = Adjustments(minimum=q(lines["volume"]["min"]))
    volume = rate(tiered("volume", lines["volume"]["tiers"]), [Usage(q(part["volume_qty"]))], limits)
    assert [step.amount for step in volume.steps] == [final["volume"], final["volume_min_spend"]]
    assert (
        unit.amount + graduated.amount + volume.amount + lines["flat_arrears"] == expect["invoice"]["total"]
    )


def om_recurrence(given: Any, expect: Any) -> None:
    for case, period in zip(given["cases"], expect["periods"], strict=True):
        cadence = Cadence(Length(Unit.MONTH, 1), "UTC", us(case["anchor"].replace("Z", ":00Z")))
        found = cadence.period_at(us(case["at"].replace("Z", ":00Z")))
        assert [found.from_us, found.to_us] == [us(text.replace("Z", ":00Z")) for text in period]


def om_tokens(given: Any, expect: Any) -> None:
    book = [{"model": "m", "input": str(given["input_price"]), "output": str(given["output_price"])}]
    parts = [Usage.of(given[f"{kind}_tokens"], model="m", type=kind) for kind in ("input", "output")]
    rated = rate(price("token_book", book=book, per=1), parts)
    assert (check_sum(rated), sum(part.quantity for part in parts)) == (q(expect["cost"]), expect["usage"])


OPENMETER_RUN: dict[str, Callable[[Any, Any], None]] = {
    "P01": om_graduated, "P02": om_graduated, "P03": om_graduated, "P05": om_volume, "P06": om_volume_limits,
    "P07": om_unit, "P08": om_unit_discount, "P09": om_package, "P10": om_dynamic, "P12": om_unit_config,
    "P14": om_unit_config_rated, "P15": om_free_units, "I01": om_edit, "I02": om_parts, "I05": om_progressive,
    "I07": om_invoice, "I08": om_recurrence, "I09": om_tokens,
}  # fmt: skip


@pytest.mark.parametrize("name", list(OPENMETER_RUN) if OPENMETER else [])
def test_openmeter(name: str) -> None:
    OPENMETER_RUN[name](OPENMETER[name]["input"], OPENMETER[name]["expect"])


def test_every_case_is_run_or_its_difference_is_explained() -> None:
    different = listed()
    run = {*lago_cases(), *OPENMETER_RUN}
    assert not run & different
    cases = {name for file in (LAGO, OPENMETER) for name, one in file.items() if one["area"] in RATING_AREAS}
    assert cases - run - different == set()
