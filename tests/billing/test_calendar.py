"""Invoices over awkward calendars: their periods tile time, their quantities are all of the usage, and a preview at the end of a
period is its invoice. Zones with daylight saving on both hemispheres, on both sides of the date line, and the day that Samoa
left out; anchors at the ends of months; currencies of no and of three digits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.billing.invoice import Line
from tallystick.billing.period import HOUR_US
from tallystick.billing.plan import Plan, parse_plan
from tallystick.billing.subscription import Span, Subscription
from tallystick.billing.timeline import first_boundary, next_boundary
from tallystick.flows.billing.build import Built, Job, boundary_of, build, want
from tallystick.flows.billing.gather import Answers, Settled, Wanted
from tallystick.rating.model import Usage

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu",
    "Pacific/Auckland", "Pacific/Apia", "Pacific/Honolulu", "Pacific/Kiritimati", "Africa/Casablanca", "America/Havana",
)  # fmt: skip
DIGITS = {"USD": 2, "JPY": 0, "BHD": 3}
SETTLED = Settled(1_790_000_000_000_000, "p")
Event = tuple[int, Decimal]


def plan(currency: str, period: str, **members: Any) -> Plan:
    return parse_plan(
        {
            "key": "p",
            "currency": currency,
            "billing_period": period,
            "charges": [
                {"key": "fee", "price": {"model": "flat", "amount": "100"}},
                {"key": "ahead", "price": {"model": "flat", "amount": "7"}, "timing": "advance"},
                {"key": "n", "meter": "n", "price": {"model": "per_unit", "unit_amount": "0.3333"}},
            ],
            **members,
        }
    )


def job(
    one: Plan, timezone: str, subscription: Subscription, boundary_us: int, until_us: int | None = None
) -> Job:
    return Job(
        subscription=subscription,
        plans={("p", 1): one},
        timezone=timezone,
        members=("c",),
        boundary_us=boundary_us,
        meters={"n": 1},
        until_us=until_us,
    )


def invoice(wanted_job: Job, events: Sequence[Event]) -> Built:
    """Made from events that a plain loop adds up."""
    wanted = Wanted()
    want(wanted_job, wanted)
    answers: dict[Any, Any] = {}
    for place in wanted.by_question:
        question = place[0]
        held = [value for at_us, value in events if question.from_us <= at_us < question.to_us]
        answers[place] = {"c": [Usage(sum(held, Decimal(0)), at_us=question.from_us)]} if held else {}
    found: Answers = answers
    return build(wanted_job, found, SETTLED)


def boundaries_of(one: Plan, timezone: str, subscription: Subscription, count: int) -> list[int]:
    plans = {("p", 1): one}
    made: list[int] = []
    boundary_us = first_boundary(subscription, plans, timezone)
    while boundary_us is not None and len(made) < count:
        made.append(boundary_us)
        boundary_us = next_boundary(subscription, plans, timezone, boundary_us)
    return made


def subscribed(start_us: int, anchor_us: int | None, end_us: int | None = None) -> Subscription:
    return Subscription(
        id="sub", customer="c", spans=(Span("p", 1, start_us, end_us),), anchor_us=anchor_us, trial_days=None
    )


_AWKWARD = st.sampled_from(
    [
        "2011-12-28T00:00:00", "2026-03-07T13:30:00", "2026-03-28T02:30:00", "2026-10-31T01:30:00", "2024-01-31T23:59:59",
        "2024-02-29T12:00:00", "2023-01-30T00:00:00", "2025-12-31T10:00:00", "2026-04-04T02:15:00", "2027-09-26T02:00:00",
    ]
)  # fmt: skip


@st.composite
def _moments(draw: st.DrawFn) -> int:
    face = datetime.fromisoformat(draw(_AWKWARD)).replace(tzinfo=ZoneInfo(draw(st.sampled_from(ZONES))))
    return int((face + timedelta(hours=draw(st.integers(-30, 30)))).timestamp()) * 1_000_000


@dataclass(frozen=True)
class Course:
    """How something is billed, and since when."""

    timezone: str
    period: str
    currency: str
    start_us: int
    anchored: bool
    proration: str


@settings(max_examples=80, deadline=None)
@given(
    st.builds(
        Course,
        st.sampled_from(ZONES),
        st.sampled_from(["hour", "PT6H", "day", "P3D", "week", "month", "quarter", "year"]),
        st.sampled_from(sorted(DIGITS)),
        _moments(),
        st.booleans(),
        st.sampled_from(["day", "second", "none"]),
    ),
    st.data(),
)
def test_periods_tile_time_and_all_usage_is_billed_once(course: Course, data: st.DataObject) -> None:
    timezone, currency, start_us = course.timezone, course.currency, course.start_us
    one = plan(currency, course.period, proration=course.proration)
    subscription = subscribed(start_us, start_us if course.anchored else None)
    boundaries = boundaries_of(one, timezone, subscription, 9)
    assert boundaries == sorted(set(boundaries))
    last_us = boundaries[-1]
    events = data.draw(
        st.lists(
            st.tuples(
                st.one_of(
                    st.sampled_from([edge + by for edge in boundaries for by in (-1, 0)]),
                    st.integers(start_us, last_us),
                ).map(lambda at_us: max(at_us, start_us)),
                st.decimals(0, 1000, places=3),
            ),
            max_size=12,
        )
    )
    begun_us = start_us
    quantity = Fraction(0)
    for boundary_us in boundaries:
        closing = boundary_of(job(one, timezone, subscription, boundary_us), boundary_us).closing
        final = invoice(job(one, timezone, subscription, boundary_us), events)
        if closing is not None:
            assert closing.part.from_us == begun_us  # no gap, no overlap
            assert closing.part.to_us == boundary_us
            begun_us = boundary_us
            # At its end, the preview of a period is its invoice.
            foreseen = invoice(job(one, timezone, subscription, boundary_us, until_us=boundary_us), events)
            assert foreseen.document == final.document
        quantity += sum((Fraction(line.quantity) for line in final.lines if line.charge == "n"), Fraction(0))
        _check_money(final.lines, currency)
    assert quantity == sum((Fraction(value) for at_us, value in events if at_us < last_us), Fraction(0))


def _check_money(lines: Sequence[Line], currency: str) -> None:
    for line in lines:
        assert -int(line.rounded.as_tuple().exponent) == DIGITS[currency]
        if line.charge == "fee":
            assert 0 <= line.rounded <= 100
        assert abs(Fraction(line.amount) - Fraction(line.rounded)) <= Fraction(1, 2 * 10 ** DIGITS[currency])


BORDERS = [
    # zone, billed by, start (and anchor) by the zone's clock, borders by that clock
    ("Europe/Berlin", "month", "2026-01-31T09:00", "2026-02-28T09:00 2026-03-31T09:00 2026-04-30T09:00 2026-05-31T09:00"),
    ("America/New_York", "month", "2024-01-30T00:00", "2024-02-29T00:00 2024-03-30T00:00 2024-04-30T00:00"),
    ("Pacific/Auckland", "year", "2024-02-29T12:00", "2025-02-28T12:00 2026-02-28T12:00 2027-02-28T12:00 2028-02-29T12:00"),
    ("Pacific/Honolulu", "quarter", "2025-11-30T00:00", "2026-02-28T00:00 2026-05-30T00:00 2026-08-30T00:00"),
    # 02:30 is not there on 29 March: the period begins with the first moment after the gap, and the next one at 02:30 again.
    ("Europe/Berlin", "day", "2026-03-28T02:30", "2026-03-29T03:00 2026-03-30T02:30 2026-03-31T02:30"),
    # Samoa had no 30 December 2011: two days later by the calendar is one day.
    ("Pacific/Apia", "P3D", "2011-12-28T00:00", "2011-12-31T00:00 2012-01-03T00:00"),
    ("Pacific/Apia", "week", "2011-12-26T00:00", "2012-01-02T00:00 2012-01-09T00:00"),
    ("Pacific/Kiritimati", "month", "2025-12-31T23:00", "2026-01-31T23:00 2026-02-28T23:00 2026-03-31T23:00"),
]  # fmt: skip


@pytest.mark.parametrize(("timezone", "period", "start", "borders"), BORDERS)
def test_periods_from_an_anchor(timezone: str, period: str, start: str, borders: str) -> None:
    zone = ZoneInfo(timezone)
    start_us = _us(start, zone)
    one = parse_plan({"key": "p", "currency": "USD", "billing_period": period})
    expected = [_us(text, zone) for text in borders.split()]
    assert boundaries_of(one, timezone, subscribed(start_us, start_us), len(expected)) == expected


def _us(text: str, zone: ZoneInfo) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * 1_000_000


@pytest.mark.parametrize(("change", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_hours_over_a_change_of_the_clock(change: str, hours: int) -> None:
    """Hours are hours whatever clocks show: 23 or 25 invoices a day, each with the usage of its own hour."""
    zone = ZoneInfo("Europe/Berlin")
    begin_us = _us(change, zone)
    end_us = _us(f"{datetime.fromisoformat(change) + timedelta(days=1):%Y-%m-%d}", zone)
    one = plan("BHD", "hour")
    subscription = subscribed(begin_us, None, end_us)
    events = [(begin_us + number * HOUR_US + 1, Decimal(number + 1)) for number in range(hours)]
    boundaries = boundaries_of(one, "Europe/Berlin", subscription, 100)
    found = [invoice(job(one, "Europe/Berlin", subscription, each), events) for each in boundaries]
    lines = [line for made in found for line in made.lines if line.charge == "n"]
    assert [line.quantity for line in lines] == [Decimal(number + 1) for number in range(hours)]
    assert [line.rounded for line in lines[:3]] == [Decimal("0.333"), Decimal("0.667"), Decimal("1.000")]
    assert all(line.period.length_us == HOUR_US for line in lines)


def test_a_day_that_is_left_out_is_a_date_all_the_same() -> None:
    """Samoa had no 30 December 2011. Days are counted by their dates, so the parts of the week still add up to it."""
    zone = ZoneInfo("Pacific/Apia")
    start_us, middle_us, end_us = _us("2011-12-26", zone), _us("2011-12-31", zone), _us("2012-01-02", zone)
    fee = {"key": "fee", "price": {"model": "flat", "amount": "700"}, "timing": "arrears"}
    one = parse_plan({"key": "p", "currency": "JPY", "billing_period": "week", "charges": [fee]})

    def due(begin_us: int, until_us: int) -> Decimal:
        subscription = subscribed(begin_us, None, until_us)
        (boundary_us,) = boundaries_of(one, "Pacific/Apia", subscription, 5)
        return invoice(job(one, "Pacific/Apia", subscription, boundary_us), []).lines[0].rounded

    assert (due(start_us, end_us), due(start_us, middle_us), due(middle_us, end_us)) == (700, 500, 200)
