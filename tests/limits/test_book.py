"""The book and the decision against a slow obvious model: every reservation in a list, every sum made anew."""

from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tallystick.errors import Conflict
from tallystick.limits import reservation as life
from tallystick.limits.book import Book
from tallystick.limits.limit import Enforce, Fail, Limit, LimitPeriod, Window, conditions_of, read_limit
from tallystick.limits.reservation import Reservation, State
from tallystick.limits.standing import Standing, after_use, decide
from tallystick.metering.meter import Aggregation

HOUR_US = 3_600_000_000
NOW_US = 1_784_116_800_000_000
WINDOW = Window(NOW_US - NOW_US % (24 * HOUR_US), NOW_US - NOW_US % (24 * HOUR_US) + 24 * HOUR_US)
ZERO = Decimal(0)
ACCOUNT = ("t", "c", "m")


@dataclass
class Modelled:
    amount: Decimal
    model: str
    expires_us: int
    state: str = "held"
    settled: Decimal = ZERO


class Model:
    """`recorded` is what usage says; what is settled waits in the list until it is published."""

    def __init__(self, limit: Decimal) -> None:
        self.limit = limit
        self.recorded: dict[str, Decimal] = {"a": ZERO, "b": ZERO}
        self.made: list[Modelled] = []

    def used(self) -> Decimal:
        return sum(self.recorded.values(), ZERO) + sum(
            (one.settled for one in self.made if one.state == "settled"), ZERO
        )

    def held(self, now_us: int) -> Decimal:
        return sum((one.amount for one in self.made if one.state == "held" and now_us < one.expires_us), ZERO)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "release", "publish", "wait", "correct"]),
        st.integers(0, 20),
        st.decimals("0.1", "60", places=1),
        st.sampled_from("ab"),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS, limit=st.integers(1, 100))
def test_whatever_happens_it_agrees_with_the_model(
    operations: list[tuple[str, int, Decimal, str]], limit: int
) -> None:
    model, book, now_us, recorded = Model(Decimal(limit)), Book(), NOW_US, ZERO
    whole = Limit("k", Decimal(limit), LimitPeriod("day"), "c", meter="m")
    everyone: list[Reservation] = []

    def standing(amount: Decimal, own: Decimal = ZERO) -> Standing:
        used = recorded + book.pending(ACCOUNT, WINDOW)
        found = Standing(whole, WINDOW, whole.amount, used, book.held(ACCOUNT), ZERO, WINDOW.to_us)
        after = after_use(found.used, found.held, amount - own, Aggregation.SUM)
        return replace(found, after=after)

    for kind, place, amount, dimension in operations:
        for one in book.due(now_us):
            book.put(one)
            everyone[int(one.id)] = one
        if kind == "reserve":
            fits = model.used() + model.held(now_us) + amount <= model.limit
            assert decide([standing(amount)]).allowed == fits
            if fits:
                one = Reservation(
                    str(len(everyone)),
                    "t",
                    "c",
                    "m",
                    (("model", dimension),),
                    amount,
                    now_us,
                    now_us + 7_000_000,
                )
                everyone.append(one)
                book.put(one)
                model.made.append(Modelled(amount, dimension, one.expires_us))
        elif kind in ("settle", "release") and everyone:
            number = place % len(everyone)
            there, expected = everyone[number], model.made[number]
            alive = expected.state == "held" and now_us < expected.expires_us
            try:
                again = (
                    life.settle_again(there, amount, now_us)
                    if kind == "settle"
                    else life.release_again(there, now_us)
                )
            except Conflict:
                assert not alive
                continue
            if again:
                assert expected.state == ("released" if kind == "release" else expected.state)
                continue
            assert alive
            if kind == "release":
                there, expected.state = life.released(there, now_us=now_us, receipt=b""), "released"
            else:
                fits = model.used() + model.held(now_us) - expected.amount + amount <= model.limit
                assert decide([standing(amount, there.amount)]).allowed == fits
                if not fits and amount > expected.amount:
                    continue
                there = life.settled(there, amount, now_us=now_us, time_us=now_us, events=b"", receipt=b"")
                expected.state, expected.settled = "settled", amount
            book.put(there)
            everyone[number] = there
        elif kind == "publish":
            for number, one in enumerate(everyone):
                if one.state is State.SETTLING:
                    placed = life.counted(life.placed(one, (number + 1,)))
                    book.put(placed)
                    everyone[number] = placed
                    assert one.settled_amount is not None
                    recorded += one.settled_amount
                    expected = model.made[number]
                    model.recorded[expected.model] += expected.settled
                    expected.state = "counted"
        elif kind == "correct":
            taken = min(amount, recorded)
            recorded -= taken
            model.recorded["a"] -= taken
        else:
            now_us += place * 1_000_000
        for one in book.due(now_us):
            book.put(one)
            everyone[int(one.id)] = one
        assert book.held(ACCOUNT) == model.held(now_us)
        assert recorded + book.pending(ACCOUNT, WINDOW) == model.used()
        only_a = conditions_of('{"model":{"eq":"a"}}')
        assert book.held(ACCOUNT, only_a) == sum(
            (
                one.amount
                for one in model.made
                if one.model == "a" and one.state == "held" and now_us < one.expires_us
            ),
            ZERO,
        )


def test_the_tightest_of_what_refuses_answers() -> None:
    def of(key: str, remaining: int, **more: object) -> Standing:
        limit = Limit(key, Decimal(10), LimitPeriod("day"), "c", meter="m", **more)  # type: ignore[arg-type]
        used = Decimal(10 - remaining)
        return Standing(limit, WINDOW, Decimal(10), used, ZERO, used + 3, 0)

    assert decide([]).reason == "no_limit"
    found = decide([of("wide", 9), of("tight", 2), of("tighter", 1), of("soft", 0, enforce=Enforce.SOFT)])
    assert found.standing is not None
    assert (found.allowed, found.standing.limit.key) == (False, "tighter")
    over = decide([of("wide", 9), of("soft", 0, enforce=Enforce.SOFT)])
    assert (over.allowed, over.reason) == (True, "over_soft_limit")
    unknown = Standing(
        Limit("u", Decimal(1), LimitPeriod("day"), "c", meter="m", fail=Fail.OPEN), WINDOW, ZERO, ZERO, ZERO, ZERO, 0, known=False
    )  # fmt: skip
    assert decide([unknown]).reason == "usage_unknown_open"


@pytest.mark.parametrize(
    "text", ["day", "week", "month", "billing", "rolling:PT5H", "rolling:P7D", "rolling:P1DT1H"]
)
def test_periods_are_written_as_they_are_read(text: str) -> None:
    period = LimitPeriod.parse(text)
    assert period is not None
    assert period.text() == text
    window = period.window(NOW_US, "Europe/Berlin", (NOW_US - 5, NOW_US + 5))
    assert NOW_US in window
    if window.bucket_us:
        assert window.from_us % window.bucket_us == 0
        assert NOW_US - window.from_us >= period.rolling_us


@pytest.mark.parametrize(
    "text", ["hour", "rolling", "rolling:PT5S", "rolling:P7DT1M", "rolling:P100D", "P1D"]
)
def test_what_is_no_period(text: str) -> None:
    assert LimitPeriod.parse(text) is None


def test_a_limit_is_read_as_it_is_written() -> None:
    raw = {
        "key": "k",
        "customer": "*",
        "meter": "m",
        "amount": "1.50",
        "period": "month",
        "filter": {"model": "large"},
        "carry_over": 3,
    }
    limit = read_limit(raw)
    assert read_limit(limit.to_wire()) == limit
    assert limit.to_wire()["filter"] == {"model": {"eq": "large"}}
