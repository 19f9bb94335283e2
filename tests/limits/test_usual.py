"""The usual way against the long one: two gates that are told the same, of which one has no usual way, say the same bytes."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.clock import ManualClock
from tallystick.errors import TallystickError
from tallystick.flows.limits import balances as kept
from tallystick.flows.limits.balances import Asked
from tallystick.flows.limits.gate import LimitGate
from tallystick.flows.limits.receipt import LimitExceeded, LimitUnknown
from tallystick.flows.limits.rules import Ask, Rule
from tallystick.flows.limits.writer import Written
from tallystick.limits import reservation as life
from tallystick.limits.limit import Enforce, Fail, Limit, LimitPeriod, conditions_of
from tallystick.limits.reservation import Reservation
from tallystick.limits.standing import ADDED_UP
from tallystick.metering.meter import Aggregation, InnerAggregation, Meter, Window

NOW_US = 1_784_116_800_000_000
MINUTE_US = 60_000_000
ZONE = "Europe/Berlin"
_encode = msgspec.json.Encoder().encode


class Rules:
    generation = 0

    def __init__(self, meters: Sequence[Meter], rules: Sequence[Rule]) -> None:
        self.meters = {meter.key: meter for meter in meters}
        self.rules = tuple(rules)

    def known(self, tenant: str, customer: str, meter: str) -> tuple[Meter, tuple[Rule, ...]] | None:
        return (self.meters[meter], self.rules) if meter in self.meters else None


class Ledger:
    """What would have been written, in its order."""

    def __init__(self) -> None:
        self.states: list[Reservation] = []

    def write(self, state: Reservation) -> Written:
        self.states.append(state)
        return Written()

    def later(self, state: Reservation) -> None:
        self.states.append(state)


class Gate:
    """One whose usage is put into it."""

    def __init__(self, meters: Sequence[Meter], rules: Sequence[Rule], *, is_usual: bool) -> None:
        self.clock = ManualClock(NOW_US)
        recorder = SimpleNamespace(recorded_at_us=NOW_US, published=(NOW_US, None), fresh=None)
        system = SimpleNamespace(clock=self.clock, recorder=recorder)
        self.rules = Rules(meters, rules)
        none: Any = None
        self.gate: Any = LimitGate(cast(Any, system), none, cast(Any, self.rules), none, none)
        self.ledger = self.gate._writer = Ledger()
        numbers = count()

        def new_id(now_us: int) -> str:
            return f"rsv_{now_us:x}{next(numbers):04x}"

        self.gate._new_id = new_id
        self.usual = self.gate._usual
        self.answered = 0
        if not is_usual:
            self.usual.check = self.usual.reserve = _not_usual

    def load(self, asked: Asked, value: Decimal, buckets: dict[int, Decimal] | None) -> None:
        held = kept._Balance(asked, value, buckets, None, 0.0)  # pyright: ignore[reportPrivateUsage]
        self.gate._balances._known[asked.key] = held

    def check(self, ask: Ask) -> Any:
        return self._said(lambda: self.gate.check_text(ask))

    def reserve(self, ask: Ask, ttl_s: int) -> Any:
        found = self._said(lambda: self.gate.reserve_text(ask, ttl_s))
        return found[:2] if isinstance(found, tuple) else found

    def _said(self, question: Any) -> Any:
        try:
            return question()
        except (LimitExceeded, LimitUnknown) as error:
            return error.code, error.detail, _encode(error.receipt)
        except TallystickError as error:
            return error.code, error.detail

    def settle(self, place: int, amount: Decimal) -> None:
        """Somebody settles one of those that are held, and its events are placed."""
        open_ = [one for one in self.gate._book.open() if one.state == "held"]
        if open_:
            one = open_[place % len(open_)]
            now_us = self.clock.now_us()
            self.gate._book.put(
                life.settled(one, amount, now_us=now_us, time_us=now_us, events=b"", receipt=b"")
            )


def _not_usual(*_: object) -> None:
    return None


def meter_of(aggregation: Aggregation, *, of: bool = False) -> Meter:
    inner = InnerAggregation(Aggregation.SUM, Window.HOUR) if of else None
    return Meter(1, "t", "m", 1, "m", "call", aggregation, "$.n", of=inner)


amounts = (
    st.sampled_from([Decimal(10), Decimal(20)])
    | st.decimals("0.01", "40", places=2)
    | st.integers(1, 30).map(Decimal)
    | st.just(Decimal("1E+1"))
)
periods = st.sampled_from(["day", "week", "month", "rolling:PT5M", "rolling:PT2H", "rolling:P7D"]).map(
    lambda text: cast(LimitPeriod, LimitPeriod.parse(text))
)
filters = st.sampled_from(
    [None, '{"model":{"eq":"ä"}}', '{"customer":{"prefix":"c"}}', '{"region":{"exists":false}}']
)
dimensions = st.sampled_from(
    [(), (("model", "ä"),), (("model", 'q"'), ("region", "eu")), (("region", None),), (("model", "x" * 300),)]
)


@st.composite
def rule_sets(draw: st.DrawFn) -> tuple[Meter, list[Rule], bool]:
    """And whether all of them are usual ones."""
    aggregation = draw(
        st.sampled_from(
            [*[Aggregation.SUM] * 6, Aggregation.COUNT, Aggregation.MAX, Aggregation.UNIQUE_COUNT]
        )
    )
    meter = meter_of(aggregation, of=aggregation is Aggregation.SUM and draw(st.integers(0, 5)) == 0)
    rules: list[Rule] = []
    is_usual = True
    for number in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        period = draw(periods)
        carries = period.kind in ("day", "week", "month") and draw(st.integers(0, 6)) == 0
        is_usual = is_usual and not carries
        limit = Limit(
            draw(st.sampled_from("ax")) + f'"{number}',
            draw(
                st.sampled_from(
                    [Decimal(0), Decimal("50.50"), Decimal(200), Decimal("1E+3"), Decimal("1E+3")]
                )
            ),
            period,
            "*",
            meter="m",
            filter=draw(filters),
            enforce=draw(st.sampled_from(list(Enforce))),
            fail=draw(st.sampled_from(list(Fail))),
            carry_over=Decimal(5) if carries else None,
        )
        raises = draw(
            st.lists(st.tuples(amounts, st.integers(0, 10).map(lambda n: NOW_US + n * MINUTE_US)), max_size=2)
        )
        rules.append(Rule(limit, meter, conditions_of(limit.filter), ZONE, (), tuple(raises), 0))
    return meter, rules, is_usual


steps = st.lists(
    st.tuples(
        st.sampled_from(["check", "reserve", "reserve", "reserve", "settle", "wait", "back", "doubt", "new"]),
        amounts,
        dimensions,
        st.integers(0, 400) | st.integers(0, 5),
    ),
    min_size=12,
    max_size=40,
)


@given(made=rule_sets(), steps=steps, data=st.data())
@settings(max_examples=150, deadline=None)
def test_both_ways_say_the_same(
    made: tuple[Meter, list[Rule], bool], steps: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    meter, rules, is_usual = made
    quick, long = (Gate([meter], rules, is_usual=one) for one in (True, False))
    values: dict[object, tuple[Decimal, dict[int, Decimal] | None]] = {}

    adds_up = meter.aggregation in ADDED_UP and meter.of is None

    def load(now_us: int) -> None:
        """What the gates would ask usage for, as it stands then."""
        for rule in rules:
            window = rule.window(now_us)
            windows = [window]
            if rule.limit.carry_over is not None:
                windows.append(rule.limit.period.before(window, rule.timezone))
            for one in windows:
                asked = Asked("t", "c", meter, rule.limit.filter, one)
                if asked.key not in values:
                    value, buckets = data.draw(amounts), None
                    if one.bucket_us is not None and adds_up:
                        at = data.draw(st.integers(0, 6))
                        buckets = {one.from_us + at * one.bucket_us: value} if at else {}
                    values[asked.key] = (value, buckets)
                value, buckets = values[asked.key]
                for gate in (quick, long):
                    gate.load(asked, value, None if buckets is None else dict(buckets))

    now_us = NOW_US
    for kind, amount, of, number in steps:
        if kind in ("wait", "back"):
            now_us += number * 1_000_000 * (1 if kind == "wait" else -1)
            for gate in (quick, long):
                gate.clock.move_to(now_us)
        elif kind == "doubt":
            for gate in (quick, long):
                gate.gate._stands.is_behind = number % 3 == 0
        elif kind == "new":
            for gate in (quick, long):
                gate.rules.generation += 1
        elif kind == "settle":
            for gate in (quick, long):
                gate.settle(number, amount)
        else:
            load(now_us)
            ask = Ask("t", "c", "m", amount, of)
            if kind == "check":
                assert quick.check(ask) == long.check(ask)
                known = not rules or not quick.gate._stands.is_behind
                if is_usual and known and len(str(of)) < 200:
                    assert quick.usual.check(ask) is not None
            else:
                assert quick.reserve(ask, number + 1) == long.reserve(ask, number + 1)
        assert quick.ledger.states == long.ledger.states
        assert list(quick.gate._book.open()) == list(long.gate._book.open())


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallystick.flows.limits.usual.KEPT_MAX", 3)
    gate = Gate([meter_of(Aggregation.SUM)], [], is_usual=True)
    for number in range(10):
        ask = Ask("t", f"c{number}", "m", Decimal(1))
        assert gate.usual.check(ask) is not None
        assert len(gate.usual._uses) == min(number + 1, 3)
    assert gate.usual.check(Ask("t", "c", "m", Decimal(1), (("model", "x" * 300),))) is None
    assert len(gate.usual._uses) == 3
