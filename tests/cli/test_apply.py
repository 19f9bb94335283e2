"""What `apply` would do, and what it says of a file that is wrong."""

from pathlib import Path
from typing import Any

import pytest

from tallystick.cli.apply import read_meters, steps_to
from tallystick.errors import Invalid, TallystickError
from tallystick.metering.definition import definition_to_wire

FILE = """
meters:
  - key: a
    event_type: t
    aggregation: count
    dimensions: {x: $.x, y: $.y}
  - key: b
    event_type: t
    aggregation: sum
    value: $.n
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "meters.yaml"
    path.write_text(text)
    return path


def present(tmp_path: Path, text: str, *archived: str) -> list[dict[str, Any]]:
    """The meters of a file as the API would list them."""
    return [
        {
            **definition_to_wire(one),
            "version": 1,
            "archived_at": "2026-01-01T00:00:00Z" if one.key in archived else None,
        }
        for one in read_meters(written(tmp_path, text))
    ]


def kinds(
    tmp_path: Path, before: list[dict[str, Any]], text: str, *, prune: bool = False
) -> list[tuple[str, str]]:
    steps = steps_to(read_meters(written(tmp_path, text)), before, prune=prune)
    return [(step.kind, step.key) for step in steps]


def test_steps(tmp_path: Path) -> None:
    assert kinds(tmp_path, [], FILE) == [("create", "a"), ("create", "b")]
    assert kinds(tmp_path, present(tmp_path, FILE), FILE) == []
    assert kinds(tmp_path, present(tmp_path, FILE, "b"), FILE) == [("restore", "b")]
    assert kinds(tmp_path, present(tmp_path, FILE), FILE.replace("$.n", "$.m")) == [("change", "b")]
    swapped = FILE.replace("{x: $.x, y: $.y}", "{y: $.y, x: $.x}")
    assert kinds(tmp_path, present(tmp_path, FILE), swapped) == []
    fewer = FILE[: FILE.index("  - key: b")]
    assert kinds(tmp_path, present(tmp_path, FILE), fewer) == []
    assert kinds(tmp_path, present(tmp_path, FILE), fewer, prune=True) == [("archive", "b")]
    assert kinds(tmp_path, present(tmp_path, FILE, "b"), fewer, prune=True) == []


def test_all_faults_with_their_lines(tmp_path: Path) -> None:
    text = """\
meters:
  - key: a
    event_type: t
    aggregation: total
    colour: red
  - key: "!"
    event_type: t
    aggregation: sum
  - key: c
    key: d
    event_type: t
    aggregation: count
  - key: d
    event_type: t
    aggregation: count
prices: []
"""
    with pytest.raises(Invalid) as caught:
        read_meters(written(tmp_path, text))
    lines = sorted(int(fault.pointer.rsplit(":", 1)[1]) for fault in caught.value.faults)
    assert lines == [4, 5, 6, 6, 10, 13, 16]


@pytest.mark.parametrize(
    "text",
    ["", "meters: {}", "[]", "meters: [", "a: &a [*a]", "meters: &m [*m]", "meters: [&x {key: *x}]", "\x00"],
)
def test_what_is_no_list_of_meters(tmp_path: Path, text: str) -> None:
    with pytest.raises(TallystickError):
        read_meters(written(tmp_path, text))
