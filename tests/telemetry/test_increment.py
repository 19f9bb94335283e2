"""Counters that are read again and again: what came in between, against a slow obvious account."""

import random
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tallystick.telemetry.increment import Reached, count, keys_of
from tallystick.telemetry.point import Kind, Point


def point(time: int, value: int | str, *, start: int = 0, **members: Any) -> Point:
    return Point(
        **{
            "source": "s",
            "name": "requests",
            "unit": "",
            "kind": Kind.CUMULATIVE,
            "resource": {},
            "attributes": {},
            "start_ns": start,
            "time_ns": time,
            "values": (Decimal(value),),
            **members,
        }
    )


class Book:
    """Keeps what is to be kept, as the catalog does."""

    def __init__(self) -> None:
        self.reached: dict[str, Reached] = {}
        self.added = Decimal(0)

    def take(self, *points: Point) -> list[Decimal]:
        known = {key: self.reached[key] for key in keys_of(points) if key in self.reached}
        counted, moved = count(points, known)
        self.reached |= moved
        self.added += sum((one.values[0] for one in counted), Decimal(0))
        return [one.values[0] for one in counted]


def test_a_known_start_counts_in_full_and_an_unknown_one_is_a_baseline() -> None:
    assert Book().take(point(5, 7, start=1)) == [7]
    assert Book().take(point(5, 7)) == []
    book = Book()
    assert book.take(point(5, 7, start=5), point(6, 9, start=5)) == [2]


def test_repeated_and_late_readings_count_nothing() -> None:
    book = Book()
    assert book.take(point(5, 7, start=1), point(9, 10, start=1)) == [7, 3]
    assert book.take(point(5, 7, start=1), point(9, 10, start=1), point(7, 8, start=1)) == []
    assert book.take(point(10, "10.1", start=1)) == [Decimal("0.1")]


def test_resets() -> None:
    book = Book()
    book.take(point(1, 5))
    assert book.take(point(2, 8), point(3, 2), point(4, 3)) == [3, 2, 1]
    book = Book()
    assert book.take(point(5, 5, start=1), point(9, 7, start=6)) == [5, 7]
    # two processes that say the same of themselves, told apart by their starts
    assert book.take(point(10, 6, start=1), point(11, 9, start=6), point(12, 8, start=1)) == [1, 2, 2]


def test_a_new_series_of_a_watched_target_counts_in_full() -> None:
    book = Book()
    assert book.take(point(1, 5, target="a"), point(1, 6, target="a", attributes={"x": "1"})) == []
    assert book.take(point(2, 4, target="a", attributes={"x": "2"})) == [4]
    assert book.take(point(2, 4, target="b", attributes={"x": "2", "instance": "b"})) == []


SECOND = 1_000_000_000


def test_of_replicas_one_is_heard_until_it_is_silent() -> None:
    def read(at: float, value: int, replica: str) -> Point:
        return point(int(at * SECOND), value, target="shop", replica=replica)

    book = Book()
    book.take(read(100, 50, "a"))
    book.take(read(115, 60, "a"))
    book.take(read(115.2, 59, "b"))  # its clock is ahead: among the others this would be a reset
    book.take(read(130, 70, "a"), read(130.2, 69, "b"))
    assert book.added == 20
    book.take(read(145.2, 79, "b"))  # a has died
    book.take(read(160.1, 89, "b"))
    assert book.added == 39
    book.take(read(150, 83, "a"), read(165, 92, "a"))  # back, with what it had kept
    book.take(read(175.2, 99, "b"))
    assert book.added == 49


def test_histograms_and_levels() -> None:
    values = (Decimal("1.5"), Decimal(3))
    book = Book()
    book.take(point(5, 0, start=1, values=values))
    counted, _ = count([point(6, 0, start=1, values=(Decimal("2.5"), Decimal(4)))], book.reached)
    assert counted[0].values == (1, 1)
    counted, moved = count([point(6, 0, kind=Kind.GAUGE), point(6, 3, kind=Kind.DELTA)], {})
    assert [one.values for one in counted] == [(0,), (3,)]
    assert moved == {}


@given(st.data())
def test_however_it_is_sent_the_sum_is_what_was_counted(data: st.DataObject) -> None:
    """A process counts, restarts, is read at times; requests are repeated, cut into pieces and mixed."""
    known_start = data.draw(st.booleans())
    time, total, value, start = 10, 0, 0, 1
    readings: list[Point] = [point(time, 0, start=start if known_start else 0)]
    for step, amount in data.draw(
        st.lists(st.tuples(st.sampled_from(["count", "read", "restart"]), st.integers(1, 9)), max_size=40)
    ):
        time += 1
        if step == "count":
            value += amount
            total += amount
        elif step == "read":
            readings.append(point(time, value, start=start if known_start else 0))
        else:
            readings.append(point(time, value, start=start if known_start else 0))
            value, start = 0, time
            if not known_start:
                time += 1
                readings.append(point(time, 0))
    readings.append(point(time + 1, value, start=start if known_start else 0))
    book = Book()
    chance = random.Random(data.draw(st.integers()))
    at = 0
    while at < len(readings):
        size = chance.randint(1, 5)
        request = readings[at : at + size]
        chance.shuffle(request)
        for _ in range(chance.randint(1, 2)):
            book.take(*request)
        if at:
            book.take(*readings[max(0, at - 3) : at])
        at += size
    assert book.added == total
