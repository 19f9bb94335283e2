"""How instants look on a terminal."""

import pytest

from tallystick.cli.show import instant


@pytest.mark.parametrize(
    ("text", "zone", "shown"),
    [
        (None, "Europe/Berlin", "–"),
        ("2026-11-21T23:00:00Z", "UTC", "2026-11-21 23:00:00"),
        ("2026-11-21T23:00:00Z", "Europe/Berlin", "2026-11-22 00:00:00+01:00"),
        ("2026-10-25T00:30:00Z", "Europe/Berlin", "2026-10-25 02:30:00+02:00"),
        ("2026-10-25T01:30:00.000001Z", "Europe/Berlin", "2026-10-25 02:30:00.000001+01:00"),
        ("2026-11-21T23:00:00Z", "Mars/Olympus", "2026-11-21 23:00:00Z"),
    ],
)
def test_a_day_of_a_zone_begins_at_its_midnight(text: str | None, zone: str, shown: str) -> None:
    assert instant(text, zone) == shown
