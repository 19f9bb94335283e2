"""Moments as text: RFC 3339 in, microseconds since 1970 out, and back.

The rule is the grammar `date-time` of RFC 3339 section 5.6: seconds and an offset are required, `T` and `Z` may be
lower case, a blank instead of `T` is refused. Fractions beyond microseconds are cut off. A leap second (second 60 in
the last minute of a UTC day) is the first second of the next day.
"""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from tallystick.metering.event import TIMESTAMP

INSTANT_CHARACTERS_MAX = 64
DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_DATE_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_PLAIN_DATE_TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)$"
_ARROW_FROM = 32
"""Fewer times than this are read faster one by one than through Arrow."""

_compute = cast(Any, pyarrow.compute)


def instant_us(text: str) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, negative before. Raises ValueError with a sentence for the user."""
    match = _DATE_TIME.fullmatch(text) if len(text) <= INSTANT_CHARACTERS_MAX else None
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is not an RFC 3339 time; write it like 2026-01-31T13:45:00Z or with an offset like +02:00."
        )
    year, month, day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_DAY
    except ValueError:
        raise ValueError(f"{text!r} names a day that does not exist.") from None
    hours, minutes, seconds = int(hour), int(minute), int(second)
    offset_minutes = 0
    if sign:
        if int(offset_hour) > 23 or int(offset_minute) > 59:
            raise ValueError(f"{text!r} has an offset that does not exist.")
        offset_minutes = int(sign + "1") * (int(offset_hour) * 60 + int(offset_minute))
    if hours > 23 or minutes > 59 or seconds > 60:
        raise ValueError(f"{text!r} names a time of day that does not exist.")
    minute_of_epoch = days * 1440 + hours * 60 + minutes - offset_minutes
    if seconds == 60 and minute_of_epoch % 1440 != 1439:
        raise ValueError(f"{text!r} has second 60 where there is no leap second (the end of a UTC day).")
    microseconds = int(fraction[:6].ljust(6, "0")) if fraction else 0
    return (minute_of_epoch * 60 + seconds) * 1_000_000 + microseconds


def instant_text(us: int) -> str:
    """RFC 3339 in UTC with `Z`; a fraction only where there is one, microseconds kept.

    Good for years 1 to 9999, as RFC 3339 is."""
    second, microsecond = divmod(us, 1_000_000)
    if microsecond:
        return f"{_second_text(second)}.{microsecond:06d}Z"
    return _second_text(second) + "Z"


@lru_cache(4096)
def _second_text(second: int) -> str:
    # What is asked for together lies close together: answers of one second, borders of one period.
    return (_EPOCH + timedelta(seconds=second)).replace(tzinfo=None).isoformat()


def instants_us(texts: Sequence[str]) -> NDArray[np.int64]:
    """`instant_us` of many at once. Raises ValueError when one of them cannot be read, without saying which."""
    if len(texts) >= _ARROW_FROM:
        column = pa.array(texts, pa.string())
        # Arrow reads more than RFC 3339 (no seconds, a blank for T); what passes the pattern it reads the same.
        if _compute.all(_compute.match_substring_regex(column, _PLAIN_DATE_TIME)).as_py():
            try:
                return column.cast(TIMESTAMP).cast(pa.int64()).to_numpy()
            except pa.ArrowInvalid:
                pass
    return np.fromiter(map(instant_us, texts), np.int64, len(texts))
