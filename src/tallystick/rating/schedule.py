"""Rates that change over time.

`scheduled {schedule: [{from, price}]}`: each price holds from its moment until the next one's; the first begins with
null, so that no usage is left without a price.
`time_of_day {timezone, rates: [{name, days, from, to, price}], default}`: by the face of the zone's clock, `from`
inclusive, `to` exclusive ("24:00" is the end of the day; a `to` that is not after `from` reaches into the next day, which
`days` then names by its beginning). The first rate that fits holds, `default` the rest of the time.

Usage must come in parts that do not reach across a border (see `Needs`). What one price holds for is added up first.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.errors import Invalid
from tallystick.metering.instant import instant_us
from tallystick.metering.window import TIME_US_MAX, TIME_US_MIN, zone_of
from tallystick.rating.matrix import labelled, together
from tallystick.rating.model import Model, Needs, Rated, ReadNested, Step, Usage, no_answer

SCHEDULE_MAX = 100
RATES_MAX = 50
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 1440
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACE = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00", re.ASCII)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """`starts_us[i]` is where `prices[i + 1]` begins; the first price has no beginning."""

    starts_us: tuple[int, ...]
    prices: tuple[Model, ...]
    name: ClassVar[str] = "scheduled"

    @classmethod
    def read(cls, document: Document, read_nested: ReadNested) -> "Scheduled":
        starts: list[int] = []
        prices: list[Model] = []
        for index, one in enumerate(document.objects("schedule", items_max=SCHEDULE_MAX, required=True)):
            raw = one.take("from")
            if index == 0 and raw is not None:
                one.fault("invalid_value", "must be null: the first price has no beginning.", "from")
            elif index and raw is None:
                one.fault("missing", "is required from the second price on.", "from")
            elif index:
                start = _read_moment(one, raw)
                if start is not None and starts and start <= starts[-1]:
                    one.fault("invalid_value", "must be after that of the price before.", "from")
                if start is not None:
                    starts.append(start)
            prices.append(read_nested(one.below(one.take("price"), "price")))
        return cls(tuple(starts), tuple(prices))

    def rate(self, parts: Sequence[Usage]) -> Rated:
        by_price: dict[int, list[Usage]] = {}
        for part in parts:
            by_price.setdefault(bisect_right(self.starts_us, _at(part)), []).append(part)
        steps: list[Step] = []
        for index in sorted(by_price):
            label = "" if index == 0 else _moment_text(self.starts_us[index - 1])
            steps += labelled(self.prices[index].rate(by_price[index]).steps, label)
        return Rated.of(steps)

    def needs(self) -> Needs:
        return together((), self.prices, None) | Needs(split_us=frozenset(self.starts_us))

    def to_wire(self) -> dict[str, Any]:
        starts = [None, *map(_moment_text, self.starts_us)]
        return {
            "schedule": [
                {"from": start, "price": nested_to_wire(price)}
                for start, price in zip(starts, self.prices, strict=True)
            ]
        }


@dataclass(frozen=True, slots=True)
class TimedRate:
    """A price for some minutes of some days. `days`: 0 is Monday."""

    label: str
    days: tuple[int, ...]
    from_minute: int
    to_minute: int
    price: Model

    def holds(self, weekday: int, minute: int) -> bool:
        if self.from_minute < self.to_minute:
            return weekday in self.days and self.from_minute <= minute < self.to_minute
        if minute >= self.from_minute:
            return weekday in self.days
        return minute < self.to_minute and (weekday - 1) % 7 in self.days


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """Prices by the hour of the week."""

    timezone: str
    rates: tuple[TimedRate, ...]
    default: Model
    name: ClassVar[str] = "time_of_day"

    @classmethod
    def read(cls, document: Document, read_nested: ReadNested) -> "TimeOfDay":
        timezone = document.text("timezone", characters_max=64) or "UTC"
        try:
            zone_of(timezone)
        except Invalid as error:
            document.fault(error.code, f"is {timezone!r}, which is no IANA time zone.", "timezone")
        rates: list[TimedRate] = []
        for index, one in enumerate(document.objects("rates", items_max=RATES_MAX, required=True)):
            label = one.text("name", characters_max=128) or str(index + 1)
            days = one.texts("days", items_max=7)
            for day in days:
                if day not in DAYS:
                    one.fault("invalid_value", f"must be some of {', '.join(DAYS)}.", "days")
                    break
            numbers = tuple(DAYS.index(day) for day in days if day in DAYS) or tuple(range(7))
            begin = _read_face(one, "from")
            end = _read_face(one, "to")
            price = read_nested(one.below(one.take("price"), "price"))
            rates.append(TimedRate(label, numbers, begin % DAY_MINUTES, end, price))
        default = read_nested(document.below(document.take("default"), "default"))
        return cls(timezone, tuple(rates), default)

    def rate(self, parts: Sequence[Usage]) -> Rated:
        zone = zone_of(self.timezone)
        by_rate: dict[int, list[Usage]] = {}
        for part in parts:
            face = (_EPOCH + timedelta(microseconds=_at(part))).astimezone(zone)
            weekday, minute = face.weekday(), face.hour * 60 + face.minute
            holding = (index for index, rate in enumerate(self.rates) if rate.holds(weekday, minute))
            by_rate.setdefault(next(holding, len(self.rates)), []).append(part)
        steps: list[Step] = []
        for index in sorted(by_rate):
            if index < len(self.rates):
                steps += labelled(self.rates[index].price.rate(by_rate[index]).steps, self.rates[index].label)
            else:
                steps += labelled(self.default.rate(by_rate[index]).steps, "default")
        return Rated.of(steps)

    def needs(self) -> Needs:
        minutes = 60
        for rate in self.rates:
            for border in (rate.from_minute, rate.to_minute):
                while border % minutes:
                    minutes = {60: 15, 15: 5, 5: 1}[minutes]
        own = Needs(window_minutes=minutes, timezone=self.timezone)
        return own | together((), [rate.price for rate in self.rates], self.default)

    def to_wire(self) -> dict[str, Any]:
        return {
            "timezone": self.timezone,
            "rates": [
                {
                    "name": rate.label,
                    "days": [DAYS[day] for day in rate.days],
                    "from": _face_text(rate.from_minute),
                    "to": _face_text(rate.to_minute),
                    "price": nested_to_wire(rate.price),
                }
                for rate in self.rates
            ],
            "default": nested_to_wire(self.default),
        }


def nested_to_wire(price: Model) -> dict[str, Any]:
    return {"model": price.name, **price.to_wire()}


def _at(part: Usage) -> int:
    if part.at_us is None:
        raise no_answer(
            "time_needed", "This price changes over time: say when the usage was (`at`).", "/usage"
        )
    return part.at_us


def _read_moment(document: Document, raw: object) -> int | None:
    try:
        moment = instant_us(raw) if isinstance(raw, str) else None
    except ValueError:
        moment = None
    if moment is None or not TIME_US_MIN <= moment <= TIME_US_MAX:
        document.fault("invalid_time", "must be an RFC 3339 time such as 2026-07-01T00:00:00Z.", "from")
        return None
    return moment


def _moment_text(us: int) -> str:
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.isoformat().replace("+00:00", "Z")


def _read_face(document: Document, name: str) -> int:
    text = document.required_text(name, characters_max=5)
    match = _FACE.fullmatch(text)
    if match is None:
        if text:
            document.fault("invalid_value", "must be a time of day such as 08:00 (24:00 for its end).", name)
        return 0
    return DAY_MINUTES if match[1] is None else int(match[1]) * 60 + int(match[2])


def _face_text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
