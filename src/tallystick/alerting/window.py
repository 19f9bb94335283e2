"""Over what time an alert looks: calendar windows of a zone, the open billing period, or a rolling stretch up to now."""

from dataclasses import dataclass
from enum import StrEnum

from tallystick.billing.period import NAMES, Cadence, Period, parse_duration_us

DAY_US = 86_400_000_000
ROLLING_US_MIN = 60_000_000
ROLLING_US_MAX = 92 * DAY_US
CALENDAR = ("hour", "day", "week", "month", "quarter", "year")
WINDOW_SENTENCE = (
    f"must be one of {', '.join(CALENDAR)}, billing, or rolling: and an ISO 8601 duration from PT1M to P92D, "
    "such as rolling:PT5H."
)
_ROLLING = "rolling:"


class WindowKind(StrEnum):
    CALENDAR = "calendar"
    BILLING = "billing"
    ROLLING = "rolling"


@dataclass(frozen=True, slots=True)
class AlertWindow:
    """`text` as it was given; `length_us` of a rolling one, otherwise None."""

    kind: WindowKind
    text: str
    length_us: int | None = None

    def at(self, at_us: int, timezone: str) -> Period:
        """The calendar window that holds a moment; of a rolling one, the stretch that ends with it."""
        if self.length_us is not None:
            return Period(at_us - self.length_us, at_us)
        if self.kind is WindowKind.BILLING:
            raise ValueError("What the billing period is, only the subscription knows.")
        return Cadence(NAMES[self.text], timezone).period_at(at_us)

    def before(self, period: Period, timezone: str) -> Period:
        """The window that ends where this one begins."""
        if self.length_us is not None:
            return Period(period.from_us - self.length_us, period.from_us)
        return Cadence(NAMES[self.text], timezone).before(period)


def parse_window(text: str, *, least_us: int = ROLLING_US_MIN) -> AlertWindow | None:
    """None when it is none. `least_us`: how short a rolling one may be."""
    if text in CALENDAR:
        return AlertWindow(WindowKind.CALENDAR, text)
    if text == WindowKind.BILLING:
        return AlertWindow(WindowKind.BILLING, text)
    if not text.startswith(_ROLLING):
        return None
    length_us = parse_duration_us(text.removeprefix(_ROLLING))
    if length_us is None or not least_us <= length_us <= ROLLING_US_MAX:
        return None
    return AlertWindow(WindowKind.ROLLING, text, length_us)
