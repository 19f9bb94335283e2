"""What `apply` would do, and what it says of a file that is wrong."""

from pathlib import Path

import pytest

from tallystick.cli.config import NOUNS
from tallystick.cli.config.file import read_file, written
from tallystick.cli.config.noun import Entry, Present, steps_to
from tallystick.errors import Invalid, TallystickError

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


METERS, CUSTOMERS, API_KEYS = (noun for noun in NOUNS if noun.name in ("meters", "customers", "api_keys"))


def stored(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "meters.yaml"
    path.write_text(text)
    return path


def meters_of(tmp_path: Path, text: str) -> list[Entry]:
    return read_file(stored(tmp_path, text))["meters"]


def present(tmp_path: Path, text: str, *archived: str) -> list[Present]:
    """The meters of a file as they would be there."""
    return [
        Present(one["key"], one, "/v1/meters/" + one["key"], archived=one["key"] in archived)
        for one in meters_of(tmp_path, text)
    ]


def kinds(tmp_path: Path, before: list[Present], text: str, *, prune: bool = False) -> list[tuple[str, str]]:
    steps = steps_to(METERS, meters_of(tmp_path, text), before, prune=prune)
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
        read_file(stored(tmp_path, text))
    lines = sorted(int(fault.pointer.rsplit(":", 1)[1]) for fault in caught.value.faults)
    assert lines == [4, 5, 6, 6, 10, 13, 16]


@pytest.mark.parametrize(
    "text",
    ["", "meters: {}", "[]", "meters: [", "a: &a [*a]", "meters: &m [*m]", "meters: [&x {key: *x}]", "\x00"],
)
def test_what_is_no_list_of_meters(tmp_path: Path, text: str) -> None:
    with pytest.raises(TallystickError):
        read_file(stored(tmp_path, text))


def test_every_noun_is_checked_with_its_lines(tmp_path: Path) -> None:
    text = """\
customers:
  - key: a
    currency: XYZ
    subjects: [s, 7]
  - key: b
    stage: gone
    timezone: Mars
    colour: red
  - name: c
api_keys:
  - name: k
    scopes: events:write
    expires_at: soon
"""
    with pytest.raises(Invalid) as caught:
        read_file(stored(tmp_path, text))
    lines = sorted(int(fault.pointer.rsplit(":", 1)[1]) for fault in caught.value.faults)
    assert lines == [4, 8, 9, 12]
    fixed = (
        text.replace("7]", "'7']")
        .replace("    colour: red\n", "")
        .replace("  - name: c\n", "")
        .replace(": events:write", ": [events:write]")
    )
    with pytest.raises(Invalid) as caught:
        read_file(stored(tmp_path, fixed))
    lines = sorted(int(fault.pointer.rsplit(":", 1)[1]) for fault in caught.value.faults)
    assert lines == [3, 6, 7, 11]


def test_customers_are_made_before_those_below_them(tmp_path: Path) -> None:
    text = "customers: [{key: c, parent: b}, {key: b, parent: a}, {key: a}, {key: x, subjects: []}, {key: y, subjects: [s]}]"
    wanted = read_file(stored(tmp_path, text))["customers"]
    before = [
        Present(key, {"key": key, "subjects": subjects}, key)
        for key, subjects in (("x", ["s"]), ("y", list[str]()))
    ]
    steps = steps_to(CUSTOMERS, wanted, before, prune=False)
    assert [(step.kind, step.key) for step in steps] == [
        ("change", "x"),
        ("create", "a"),
        ("create", "b"),
        ("create", "c"),
        ("change", "y"),
    ]


def test_times_are_compared_as_times(tmp_path: Path) -> None:
    text = "api_keys: [{name: k, scopes: [b, a], expires_at: 2030-01-01T02:00:00+02:00}]"
    (wanted,) = read_file(stored(tmp_path, text))["api_keys"]
    assert wanted == {"name": "k", "scopes": ["a", "b"], "expires_at": "2030-01-01T00:00:00Z"}
    again = read_file(stored(tmp_path, written({"api_keys": [wanted]})))
    assert again == {"api_keys": [wanted]}
