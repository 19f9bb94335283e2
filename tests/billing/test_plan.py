"""Plans and subscriptions as they are read and as they change."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.charge import Timing
from tallystick.billing.period import Cadence, Length, Period, Unit, parse_length
from tallystick.billing.plan import PlanAction, PlanState, next_state, parse_plan
from tallystick.billing.proration import Change, ProrateBy, Share
from tallystick.billing.subscription import (
    Span,
    State,
    Stretch,
    Subscription,
    parse_subscription,
    phase_stretches,
    read_effective_us,
)
from tallystick.document import Document
from tallystick.errors import Conflict, Invalid

D = Decimal
FLAT = {"model": "flat", "amount": "49"}
PLAN: dict[str, Any] = {
    "key": "pro",
    "currency": "USD",
    "billing_period": "month",
    "charges": [
        {"key": "base", "price": FLAT, "timing": "advance"},
        {"key": "seats", "price": {"model": "per_unit", "unit_amount": "10"}, "quantity": "3", "prorate": False},
        {
            "key": "tokens",
            "name": "Tokens",
            "meter": "tokens",
            "filter": {"model": {"in": ["a", "b"]}},
            "group_by": ["model"],
            "price": {"model": "volume", "tiers": [{"unit_amount": "0.01"}]},
            "included": "1000",
            "minimum": "5",
            "maximum": "500",
            "tiers": "total",
        },
    ],
    "commitment": {"amount": "100", "overage_percent": "110"},
    "minimum": "20",
    "trial_days": 14,
    "invoice_grace": "PT2H",
    "thresholds": ["100", "1000"],
    "add_ons": [{"key": "support", "charges": [{"key": "support", "price": FLAT}]}],
    "metadata": {"tier": "gold"},
}  # fmt: skip


def faults(raw: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as raised:
        parse_plan(raw)
    return [(fault.pointer, fault.code) for fault in raised.value.faults]


def test_a_plan_reads_what_it_writes() -> None:
    plan = parse_plan(PLAN)
    assert parse_plan(plan.to_wire()) == plan
    assert plan.charges[0].timing is Timing.ADVANCE
    assert plan.charges[2].adjustments.included == 1000
    assert plan.meters() == {"tokens"}
    assert plan.invoice_grace_us == 7_200_000_000
    assert parse_plan({**PLAN, "commitment": "100"}).commitment is not None
    assert parse_plan({"key": "p", "currency": "EUR", "billing_period": "hour"}).proration is ProrateBy.SECOND
    filters = [{"b": {"eq": "1"}, "a": {"gt": D("1.50")}}, {"a": {"gt": D("1.5")}, "b": {"eq": "1"}}]
    made = [parse_plan({**PLAN, "charges": [{**PLAN["charges"][2], "filter": one}]}) for one in filters]
    assert made[0] == made[1]


def test_every_fault_of_a_plan_at_once() -> None:
    raw = {
        "key": "no spaces",
        "currency": "EURO",
        "billing_period": "fortnight",
        "charges": [
            {"key": "a", "meter": "m", "timing": "advance", "quantity": 2, "price": {"model": "volume", "tiers": [{"up_to": 3, "unit_amount": 1}]}},
            {"key": "a", "group_by": ["x"], "minimum": "5", "maximum": "4", "discounts": [{"percent": "101"}]},
        ],
        "phases": [{"key": "p"}, {"key": "p", "length": "month"}],
        "thresholds": ["5", "5", "0"],
        "trial": 5,
    }  # fmt: skip
    assert set(faults(raw)) == {
        ("/key", "invalid_key"),
        ("/currency", "unknown_currency"),
        ("/billing_period", "invalid_period"),
        ("/charges/0/timing", "timing_not_allowed"),
        ("/charges/0/quantity", "quantity_not_allowed"),
        ("/charges/0/price/tiers/0/up_to", "last_tier_not_open"),
        ("/charges/1/key", "repeated"),
        ("/charges/1/group_by", "group_by_not_allowed"),
        ("/charges/1/price", "missing"),
        ("/charges/1/minimum", "min_above_max"),
        ("/charges/1/discounts/0/percent", "too_large"),
        ("/charges", "charges_and_phases"),
        ("/phases/0/length", "missing"),
        ("/phases/1/length", "invalid_period"),
        ("/phases/1/key", "repeated"),
        ("/thresholds/1", "not_ascending"),
        ("/thresholds/2", "too_small"),
        ("/trial", "unknown_member"),
    }


def test_what_is_published_never_changes() -> None:
    assert next_state(PlanState.DRAFT, PlanAction.PUBLISH) is PlanState.PUBLISHED
    assert next_state(PlanState.PUBLISHED, PlanAction.ARCHIVE) is PlanState.ARCHIVED
    for state, action in [
        (PlanState.PUBLISHED, PlanAction.CHANGE),
        (PlanState.PUBLISHED, PlanAction.PUBLISH),
        (PlanState.ARCHIVED, PlanAction.PUBLISH),
    ]:
        with pytest.raises(Conflict):
            next_state(state, action)


def test_limits_of_a_charge_shrink_with_its_period() -> None:
    (charge,) = parse_plan(
        {**PLAN, "charges": [{**PLAN["charges"][2], "discounts": [{"amount": "31"}, {"percent": "5"}]}]}
    ).charges
    half = charge.adjustments_for(Share(1, 2))
    assert (half.included, half.minimum, half.maximum) == (500, D("2.5"), 250)
    assert [(one.amount, one.percent) for one in half.discounts] == [(D("15.5"), None), (None, 5)]
    assert charge.adjustments_for(Share(31, 31)) == charge.adjustments
    assert replace(charge, prorate=False).adjustments_for(Share(1, 2)) == charge.adjustments


# -- subscriptions ------------------------------------------------------------------------------------------------------
def subscription(start: int = 10, end: int | None = None) -> Subscription:
    return Subscription("s", "acme", (Span("pro", 1, start, end),))


def stretches(one: Subscription, begin: int = 0, end: int = 100) -> list[tuple[str, int, int, int, bool]]:
    return [
        (found.plan, found.version, found.period.from_us, found.period.to_us, found.ends)
        for found in one.stretches(Period(begin, end))
    ]


def test_changes_pauses_and_the_end() -> None:
    one = subscription().changed("big", 3, 40).paused(60).resumed(70).cancelled(90)
    assert stretches(one) == [
        ("pro", 1, 10, 40, False),
        ("big", 3, 40, 60, True),
        ("big", 3, 70, 90, True),
    ]
    assert [one.state_at(at, trial_end_us=20) for at in (5, 15, 30, 65, 90)] == [
        State.SCHEDULED,
        State.TRIALING,
        State.ACTIVE,
        State.PAUSED,
        State.ENDED,
    ]
    assert one.resumed_end().end_us is None
    assert stretches(subscription().paused(20, 30), 22, 28) == []
    assert stretches(subscription(), 22, 28) == [("pro", 1, 22, 28, True)]


def test_a_change_drops_what_was_arranged_for_later() -> None:
    one = subscription().changed("big", 1, 50).changed("small", 2, 30)
    assert [(span.plan, span.from_us, span.to_us) for span in one.spans] == [
        ("pro", 10, 30),
        ("small", 30, None),
    ]
    assert subscription().changed("big", 1, 50).changed("pro", 1, 30).spans == subscription().spans
    assert subscription().changed("big", 1, 10).spans == (Span("big", 1, 10),)
    ending = subscription(end=80).changed("big", 1, 40)
    assert ending.end_us == 80


def test_what_cannot_be() -> None:
    ended = subscription(end=50)
    for change in (
        lambda: ended.changed("big", 1, 50),
        lambda: ended.changed("big", 1, 5),
        lambda: ended.cancelled(60),
        lambda: ended.resumed(20),
        lambda: ended.paused(20).paused(30),
        lambda: ended.with_quantity("seats", D(1), 60),
    ):
        with pytest.raises(Conflict):
            change()
    with pytest.raises(Invalid):
        ended.paused(20, 20)
    assert ended.cancelled(5).stretches(Period(0, 100)) == ()


def test_seats_hold_from_a_moment_on() -> None:
    one = (
        subscription()
        .with_quantity("seats", D(5), 20)
        .with_quantity("seats", D(9), 40)
        .with_quantity("seats", D(7), 30)
    )
    assert one.quantities_of("seats", D(3)) == (Change(10, D(3)), Change(20, D(5)), Change(30, D(7)))
    assert one.instances_of("support") == (Change(10, D(0)),)


@given(
    st.lists(
        st.tuples(st.sampled_from(["change", "pause", "resume", "cancel"]), st.integers(10, 90)), max_size=8
    )
)
def test_stretches_never_overlap_and_never_count_a_pause(actions: list[tuple[str, int]]) -> None:
    one = subscription()
    for number, (action, at_us) in enumerate(actions):
        try:
            if action == "change":
                one = one.changed("p", number, at_us)
            elif action == "pause":
                one = one.paused(at_us)
            elif action == "resume":
                one = one.resumed(at_us)
            else:
                one = one.cancelled(at_us)
        except Conflict:
            continue
    found = one.stretches(Period(0, 100))
    for at_us in range(100):
        inside = [stretch for stretch in found if at_us in stretch.period]
        span = None if one.paused_at(at_us) else one.span_at(at_us)
        assert [(stretch.plan, stretch.version) for stretch in inside] == (
            [] if span is None else [(span.plan, span.version)]
        )


def test_phases_are_counted_from_the_span() -> None:
    plan = parse_plan(
        {
            "key": "p",
            "currency": "USD",
            "billing_period": "month",
            "phases": [
                {"key": "trial", "length": "P10D", "free": True},
                {"key": "first", "length": "month", "charges": [{"key": "base", "price": FLAT}]},
                {"key": "rest", "charges": [{"key": "base", "price": FLAT}]},
            ],
        }
    )
    day = 86_400_000_000
    span = Span("p", 1, 0)
    stretch = Stretch("p", 1, Period(0, 60 * day), ends=True)
    found = phase_stretches(plan, span, stretch, "UTC")
    assert [(one.phase, one.period.from_us // day, one.period.to_us // day, one.ends) for one in found] == [
        (0, 0, 10, False),
        (1, 10, 41, False),
        (2, 41, 60, True),
    ]
    assert plan.charges_in(0) == ()
    assert plan.charges_in(2)[0].key == "base"


def test_reading_a_subscription() -> None:
    made = parse_subscription(
        {"customer": "ä/ö", "plan": "pro", "start": "2026-07-01T02:00:00+02:00", "quantities": {"seats": 3}}
    )
    assert (made.customer, made.start_us, made.quantities) == (
        "ä/ö",
        1_782_864_000_000_000,
        (("seats", D(3)),),
    )
    with pytest.raises(Invalid) as raised:
        parse_subscription(
            {
                "plan": "pro",
                "start": "2026-07-01",
                "end": "1800-01-01T00:00:00Z",
                "version": 0,
                "trial_days": -1,
            }
        )
    assert {(fault.pointer, fault.code) for fault in raised.value.faults} == {
        ("/start", "invalid_time"),
        ("/end", "invalid_time"),
        ("/customer", "missing"),
        ("/version", "invalid_number"),
        ("/trial_days", "invalid_number"),
    }


def test_when_a_change_takes_effect() -> None:
    cadence = Cadence(parse_length("month") or Length(Unit.MONTH, 1), "UTC")
    now_us = 1_784_116_800_000_000  # 2026-07-15T12:00:00Z
    for raw, expected in [
        (None, now_us),
        ("now", now_us),
        ("period_end", 1_785_542_400_000_000),
        ("2026-07-20T00:00:00Z", 1_784_505_600_000_000),
    ]:
        document = Document({"effective": raw})
        assert read_effective_us(document, now_us=now_us, cadence=cadence) == expected
    document = Document({"effective": "soon"})
    read_effective_us(document, now_us=now_us, cadence=cadence)
    assert [fault.code for fault in document.faults] == ["invalid_time"]
