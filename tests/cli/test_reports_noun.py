"""Views and reports in a configuration file."""

from pathlib import Path

import pytest

from tallystick.cli.config.file import read_file
from tallystick.cli.config.noun import changes_to
from tallystick.cli.config.reports import Reports
from tallystick.cli.config.views import Views
from tallystick.errors import TallystickError

FILE = """
views:
  - key: by-model
    question: {meter: tokens, from: 2026-07-01T00:00:00Z, to: 2026-08-01T00:00:00Z, group_by: [model]}
reports:
  - key: monthly
    view: by-model
    schedule: {every: month, day: 1, timezone: Europe/Berlin}
    format: pdf
    channel: finance
"""


def test_what_is_exported_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    found = read_file(path)
    [view], [report] = found["views"], found["reports"]
    assert view["visibility"] == "shared"
    shown = Views().read({**view, "mine": True, "owner": "a", "path": "/explore"})
    assert changes_to(view, shown) == {}
    assert Views().exported(shown) == {
        "key": "by-model",
        "question": {
            "meter": "tokens",
            "from": "2026-07-01T00:00:00Z",
            "to": "2026-08-01T00:00:00Z",
            "group_by": ["model"],
        },
    }
    assert Views().checked(Views().exported(shown)) == view
    there = Reports().read({**report, "next_due_at": None})
    assert changes_to(report, there) == {}
    assert Reports().checked(Reports().exported(there)) == report
    assert Reports().exported(there)["schedule"] == {
        "every": "month",
        "hour": 6,
        "timezone": "Europe/Berlin",
        "day": 1,
    }


def test_another_persons_private_view_is_never_pruned() -> None:
    theirs = {
        "key": "a",
        "name": "a",
        "description": None,
        "visibility": "private",
        "question": {},
        "mine": False,
    }
    assert Views().read(theirs).kept


def test_a_fault_names_its_place(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(FILE.replace("every: month", "every: moon"))
    with pytest.raises(TallystickError, match="2 faults"):
        read_file(path)
