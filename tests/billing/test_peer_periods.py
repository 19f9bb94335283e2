"""Where the peers' periods begin and end, by calendar and by anniversary, read out of Lago's date services as dates."""

import pytest
from tests.rating.test_vectors import us

from tallystick.billing.period import Cadence, Length, Unit

WEEK, MONTH, QUARTER = Length(Unit.WEEK, 1), Length(Unit.MONTH, 1), Length(Unit.MONTH, 3)
HALF_YEAR, YEAR = Length(Unit.MONTH, 6), Length(Unit.YEAR, 1)
NEW_YORK = "America/New_York"

# (length, anchor or None for the calendar, zone, a moment, where its period begins and ends)
CASES = [
    (WEEK, None, "UTC", "2022-03-09", "2022-03-07", "2022-03-14"),
    (WEEK, None, NEW_YORK, "2022-03-09", "2022-03-07T05:00:00Z", "2022-03-14T04:00:00Z"),
    (WEEK, "2021-02-02", "UTC", "2022-03-10", "2022-03-08", "2022-03-15"),
    (MONTH, None, "UTC", "2022-02-28T23:59:59Z", "2022-02-01", "2022-03-01"),
    (MONTH, None, NEW_YORK, "2022-03-01", "2022-02-01T05:00:00Z", "2022-03-01T05:00:00Z"),
    (MONTH, None, NEW_YORK, "2022-03-07", "2022-03-01T05:00:00Z", "2022-04-01T04:00:00Z"),
    (MONTH, "2021-02-02", "UTC", "2021-12-07", "2021-12-02", "2022-01-02"),
    (MONTH, "2021-02-02", "UTC", "2022-03-01", "2022-02-02", "2022-03-02"),
    (MONTH, "2021-03-27", "UTC", "2022-01-26", "2021-12-27", "2022-01-27"),
    (MONTH, "2020-01-31", "UTC", "2020-02-29", "2020-02-29", "2020-03-31"),
    (MONTH, "2021-03-31", "UTC", "2021-04-29", "2021-03-31", "2021-04-30"),
    (MONTH, "2019-04-30", "UTC", "2020-03-29", "2020-02-29", "2020-03-30"),
    (MONTH, "2022-01-31", "UTC", "2022-02-27", "2022-01-31", "2022-02-28"),
    (MONTH, "2022-01-01", "UTC", "2022-02-28", "2022-02-01", "2022-03-01"),
    (QUARTER, None, "UTC", "2022-06-30", "2022-04-01", "2022-07-01"),
    (QUARTER, None, NEW_YORK, "2022-04-01", "2022-01-01T05:00:00Z", "2022-04-01T04:00:00Z"),
    (QUARTER, "2021-02-02", "UTC", "2022-05-01", "2022-02-02", "2022-05-02"),
    (QUARTER, "2021-02-02", "UTC", "2022-02-01", "2021-11-02", "2022-02-02"),
    (QUARTER, "2021-02-28", "UTC", "2022-05-27", "2022-02-28", "2022-05-28"),
    (QUARTER, "2021-05-30", "UTC", "2022-05-29", "2022-02-28", "2022-05-30"),
    (QUARTER, "2021-01-31", "UTC", "2021-04-30", "2021-04-30", "2021-07-31"),
    (QUARTER, "2023-04-06", "UTC", "2023-08-04", "2023-07-06", "2023-10-06"),
    (QUARTER, "2021-11-30", "UTC", "2022-02-27", "2021-11-30", "2022-02-28"),
    (QUARTER, "2022-01-30", "UTC", "2022-04-29", "2022-01-30", "2022-04-30"),
    (QUARTER, "2021-10-01", "UTC", "2022-03-31", "2022-01-01", "2022-04-01"),
    (HALF_YEAR, None, "UTC", "2022-03-07", "2022-01-01", "2022-07-01"),
    (HALF_YEAR, "2021-08-31", "UTC", "2022-02-28", "2022-02-28", "2022-08-31"),
    (YEAR, None, "UTC", "2021-12-31", "2021-01-01", "2022-01-01"),
    (YEAR, None, NEW_YORK, "2022-01-01", "2021-01-01T05:00:00Z", "2022-01-01T05:00:00Z"),
    (YEAR, "2021-02-02", "UTC", "2022-01-03", "2021-02-02", "2022-02-02"),
    (YEAR, "2023-03-29", "UTC", "2024-03-15", "2023-03-29", "2024-03-29"),
    (YEAR, "2020-02-29", "UTC", "2022-03-28", "2022-02-28", "2023-02-28"),
    (YEAR, "2020-02-29", "UTC", "2025-02-27", "2024-02-29", "2025-02-28"),
    (YEAR, "2022-12-01", "UTC", "2023-11-30", "2022-12-01", "2023-12-01"),
]  # fmt: skip


@pytest.mark.parametrize(("length", "anchor", "zone", "at", "begin", "end"), CASES)
def test_periods(length: Length, anchor: str | None, zone: str, at: str, begin: str, end: str) -> None:  # noqa: PLR0917
    found = Cadence(length, zone, None if anchor is None else us(anchor)).period_at(us(at))
    assert (found.from_us, found.to_us) == (us(begin), us(end))
