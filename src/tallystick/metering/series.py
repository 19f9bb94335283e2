"""Series, for the oracle: what readings become whose meaning depends on those before them.

A gauge's readings become stretches of time at a level, starts and stops become stretches of time, a register's
readings become what each adds. A series is always in the order of (time, position), whenever its events arrived.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from tallystick.metering.oracle_reading import OracleReading


@dataclass(frozen=True, slots=True)
class Stretch:
    """A level from start to end. `names` is the reading whose customer, subject and dimensions it has."""

    names: OracleReading
    start_us: int
    end_us: int
    level: Decimal

    def touches(self, start_us: int, end_us: int) -> bool:
        """Whether some of it lies in [start_us, end_us); a stretch of no length lies where it starts."""
        return self.start_us < end_us and (self.end_us > start_us or self.start_us >= start_us)


def curves(readings: Iterable[OracleReading], *, timeout_us: int | None, until_us: int) -> list[Stretch]:
    """The levels of gauges, one curve for each (customer, subject, dimensions). A reading holds until the next one of
    its curve, at most for the timeout, at most until `until_us`."""
    stretches: list[Stretch] = []
    for series in _series(readings, lambda reading: (reading.customer, reading.subject, reading.dimensions)):
        following = [*(reading.time_us for reading in series[1:]), until_us]
        for reading, next_us in zip(series, following, strict=True):
            end_us = min(next_us, until_us)
            if timeout_us is not None:
                end_us = min(end_us, reading.time_us + timeout_us)
            # Of readings at the same time only the last has any length.
            if reading.time_us < end_us:
                stretches.append(Stretch(reading, reading.time_us, end_us, reading.value))
    return stretches


def pairs(readings: Iterable[OracleReading], *, timeout_us: int | None, now_us: int | None) -> list[Stretch]:
    """The stretches from a start (value 1) to its stop (value 0), for each (customer, subject, text).

    A start opens when nothing is open, a stop closes what is open; others are ignored. What is open is closed by the
    timeout at the latest, which counts once it has passed.
    """
    stretches: list[Stretch] = []
    for series in _series(readings, lambda reading: (reading.customer, reading.subject, reading.text)):
        opened: OracleReading | None = None
        for reading in series:
            if (
                opened is not None
                and timeout_us is not None
                and reading.time_us >= opened.time_us + timeout_us
            ):
                stretches += _timed_out(opened, timeout_us, now_us)
                opened = None
            if reading.value == 1:
                opened = opened or reading
            elif opened is not None:
                stretches.append(Stretch(opened, opened.time_us, reading.time_us, Decimal(1)))
                opened = None
        if opened is not None and timeout_us is not None:
            stretches += _timed_out(opened, timeout_us, now_us)
    return stretches


def _timed_out(opened: OracleReading, timeout_us: int, now_us: int | None) -> list[Stretch]:
    end_us = opened.time_us + timeout_us
    if now_us is not None and end_us > now_us:
        return []
    return [Stretch(opened, opened.time_us, end_us, Decimal(1))]


def contributions(readings: Iterable[OracleReading]) -> list[OracleReading]:
    """The readings of registers with what each adds as its value, one register for each (customer, subject,
    dimensions): the first 0, one less than the one before (a reset) itself, any other the difference."""
    added: list[OracleReading] = []
    for series in _series(readings, lambda reading: (reading.customer, reading.subject, reading.dimensions)):
        previous: Decimal | None = None
        for reading in series:
            if previous is None:
                value = Decimal(0)
            elif reading.value < previous:
                value = reading.value
            else:
                value = reading.value - previous
            added.append(replace(reading, value=value))
            previous = reading.value
    return added


def _series(
    readings: Iterable[OracleReading], key: Callable[[OracleReading], object]
) -> Iterable[Sequence[OracleReading]]:
    series: dict[object, list[OracleReading]] = {}
    for reading in readings:
        series.setdefault(key(reading), []).append(reading)
    for one in series.values():
        yield sorted(one, key=lambda reading: (reading.time_us, reading.position))
