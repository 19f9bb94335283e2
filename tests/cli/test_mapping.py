"""Rows to events: the same record is the same event from every format, and nothing is lost on the way."""

import gzip
import json
import random
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Invalid, TallystickError
from tallystick.metering.content import same_content
from tallystick.metering.instant import instant_us
from tallystick.sources.files import FileFormat, format_of, open_rows
from tallystick.sources.mapping import EventMaker, Events, Mapping, columns_of, read_mapping, template_of


def events_of(path: Path, mapping: Mapping | None = None) -> Events:
    maker = EventMaker(mapping or Mapping())
    whole = Events()
    with open_rows(str(path), None) as source:
        for rows in source.blocks:
            made = maker.events(rows)
            whole.lines += made.lines
            whole.numbers += made.numbers
            whole.ids += made.ids
            whole.refused += made.refused
    return whole


def written(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text)
    return path


RECORDS: list[dict[str, Any]] = [
    {"who": "acme", "when": "2026-01-02T03:04:05Z", "n": 1, "amount": Decimal("0.10"), "note": 'a "b", ü'},
    {
        "who": "acme",
        "when": "2026-01-02T03:04:05.25Z",
        "n": 12,
        "amount": Decimal("123456789012.12"),
        "note": None,
    },
    {"who": "globex", "when": "2026-01-03T00:00:00Z", "n": -7, "amount": Decimal("3.00"), "note": "007"},
    {"who": "globex", "when": "2026-01-03T00:00:00Z", "n": -7, "amount": Decimal("3.00"), "note": "007"},
]


def three_files(directory: Path) -> list[Path]:
    def cell(value: Any) -> str:
        return "" if value is None else '"' + str(value).replace('"', '""') + '"'

    lines = [",".join(RECORDS[0]), *(",".join(cell(value) for value in row.values()) for row in RECORDS)]
    csv = written(directory, "rows.csv", "\r\n".join(lines) + "\r\n")
    texts = []
    for row in RECORDS:
        members = [
            f"{json.dumps(name)} : {value if isinstance(value, Decimal) else json.dumps(value)}"
            for name, value in reversed(row.items())
        ]
        texts.append("{" + ", ".join(members) + "}")
    ndjson = written(directory, "rows.ndjson", "\n".join(texts))
    columns: dict[str, Any] = {name: [row[name] for row in RECORDS] for name in RECORDS[0]}
    columns["when"] = pa.array(
        [datetime.fromisoformat(text) for text in columns["when"]], pa.timestamp("us", "UTC")
    )
    columns["amount"] = pa.array(columns["amount"], pa.decimal128(38, 2))
    parquet = directory / "rows.parquet"
    pq.write_table(pa.table(columns), parquet)
    return [csv, ndjson, parquet]


@pytest.mark.parametrize("event_id", [None, "{who}/{n}/{when}"], ids=["digest", "template"])
def test_the_same_record_is_the_same_event_from_every_format(tmp_path: Path, event_id: str | None) -> None:
    chosen = {} if event_id is None else {"id": "{who}/{n}"}
    mapping = Mapping(type="t", subject="who", time="when", **chosen)
    found = [[json.loads(line) for line in events_of(path, mapping).lines] for path in three_files(tmp_path)]
    raw = [events_of(path, mapping).lines for path in three_files(tmp_path)]
    for other, lines in zip(found[1:], raw[1:], strict=True):
        for a, b, a_line, b_line in zip(found[0], other, raw[0], lines, strict=True):
            assert a["id"] == b["id"]
            assert instant_us(a["time"]) == instant_us(b["time"])
            a_data, b_data = (line[line.index('"data":') + 7 : -1].encode() for line in (a_line, b_line))
            assert same_content(a["type"], a["subject"], a_data, b["type"], b["subject"], b_data)
    if event_id is None:
        assert len({event["id"] for event in found[0]}) == len(RECORDS)


def test_a_csv_number_keeps_its_digits(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.csv", "subject,a,b,c,d\ns,0.1000000000000000055511151231257827,1e400,007,-0\n"
    )
    (line,) = events_of(path, Mapping(type="t", id="{subject}")).lines
    assert line.endswith('"data":{"a":0.1000000000000000055511151231257827,"b":1e400,"c":"007","d":-0}}')


def test_a_parquet_column_that_json_has_nothing_for_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["a"], "took": pa.array([5], pa.duration("s"))}), path)
    with open_rows(str(path), None) as found, pytest.raises(TallystickError) as refused:
        list(found.blocks)
    assert "'took' has the type duration[s]" in str(refused.value)
    assert str(refused.value).endswith("write it as numbers or texts.")


def test_parquet_floats_are_the_shortest_digits(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"subject": ["s"], "a": [0.1], "b": pa.array([0.1], pa.float32())}), path)
    (line,) = events_of(path, Mapping(type="t", id="{subject}")).lines
    assert line.endswith('"data":{"a":0.1,"b":0.1}}')


def test_what_is_no_number_is_refused_with_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"subject": ["s", "s", "s"], "a": [1.5, float("nan"), float("-inf")]}), path)
    made = events_of(path, Mapping(type="t"))
    assert len(made.lines) == 1
    assert [(one.row, one.code) for one in made.refused] == [(2, "not_a_number"), (3, "not_a_number")]


def test_bad_rows_do_not_stop_the_others(tmp_path: Path) -> None:
    csv = written(tmp_path, "a.csv", "subject,n\na,1\nb\nc,3,4\n\nd,4\n")
    made = events_of(csv, Mapping(type="t"))
    assert made.numbers == [2, 6]
    assert [(one.row, one.code) for one in made.refused] == [(3, "invalid_row"), (4, "invalid_row")]
    ndjson = written(tmp_path, "a.ndjson", '{"subject":"a","n":1}\nnot json\n[1]\n{"subject":"b","n":2}\n')
    made = events_of(ndjson, Mapping(type="t"))
    assert made.numbers == [1, 4]
    assert [(one.row, one.code) for one in made.refused] == [(2, "invalid_json"), (3, "invalid_json")]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    for name, text in (
        ("a.ndjson", '{"subject":"a"}\n'),
        ("a.json", '[{"subject":"a"}]'),
        ("a.csv", "subject\na\n"),
    ):
        path = tmp_path / name
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        made = events_of(path, Mapping(type="t"))
        assert (len(made.lines), made.refused) == (1, []), name


def test_what_is_no_utf_8_is_refused_and_not_altered(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'{"subject":"a"}\n{"subject":"b\xff"}\n{"subject":"c"}\n')
    made = events_of(path, Mapping(type="t"))
    assert (made.numbers, [(one.row, one.code) for one in made.refused]) == ([1, 3], [(2, "invalid_json")])
    path.write_text(made.refused[0].content)  # as it is tried again
    assert [one.code for one in events_of(path, Mapping(type="t")).refused] == ["invalid_json"]
    path = tmp_path / "a.csv"
    path.write_bytes(b"subject,note\na,\nb,caf\xe9\nc,\n")
    made = events_of(path, Mapping(type="t"))
    assert made.numbers == [2, 4]
    assert [(one.row, one.code) for one in made.refused] == [(3, "invalid_row")]
    assert "iconv" in made.refused[0].detail
    assert made.refused[0].content == "b,caf\\xe9"
    path.write_bytes("subject,note\na,b\n".encode("utf-16"))
    with pytest.raises(TallystickError, match=r"a\.csv: The first line is not UTF-8"):
        events_of(path, Mapping(type="t"))


def test_one_line_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.sources.files.LINE_BYTES_MAX", 40)
    lines = [
        '{"subject":"a"}',
        f'{{"subject":"{"x" * 200}"}}',
        '{"subject":"c"}',
        f'{{"subject":"{"y" * 26}"}}',
    ]
    path = written(tmp_path, "a.ndjson", "\n".join(lines))
    made = events_of(path, Mapping(type="t"))
    assert (made.numbers, [(one.row, one.code) for one in made.refused]) == (
        [1, 3, 4],
        [(2, "event_too_large")],
    )
    path = written(
        tmp_path, "a.csv", f'subject,note\na,"two\nlines, ""so"""\nb,"x"y\nc,{"z" * 200}\nd,ok\ne,"open\n'
    )
    made = events_of(path, Mapping(type="t"))
    assert made.numbers == [3, 6]
    assert [(one.row, one.code) for one in made.refused] == [
        (4, "invalid_row"),
        (5, "invalid_row"),
        (7, "invalid_row"),
    ]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_seen_in_the_first_line(tmp_path: Path, separator: str) -> None:
    text = 'subject,"a,b;c",n\ns,"x",1\n'.replace('"a,b;c"', "note").replace(",", separator)
    path = written(tmp_path, "a.csv", text)
    assert [json.loads(line)["data"] for line in events_of(path, Mapping(type="t")).lines] == [
        {"note": "x", "n": 1}
    ]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_what_came_before_the_damage_counts(tmp_path: Path, suffix: str) -> None:
    text = "".join(f'{{"subject":"s{random.Random(n).random()}"}}\n' for n in range(9000)).encode()
    packed = gzip.compress(text) if suffix == ".gz" else zstandard.compress(text)
    path = tmp_path / f"a.ndjson{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    rows: list[int] = []
    with open_rows(str(path), None) as source, pytest.raises(TallystickError, match="cannot be read on"):
        rows.extend(number for block in source.blocks for number in block.numbers)
    assert len(rows) % 2000 > 0
    assert rows == list(range(1, len(rows) + 1))
    altered = bytearray(packed)
    altered[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    path.write_bytes(altered)
    with pytest.raises(TallystickError, match="cannot be read on"):
        events_of(path, Mapping(type="t"))


def test_texts_that_parquet_calls_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"subject": [b"a", "ü".encode()], "n": [1, 2]}), path)
    assert [json.loads(line)["subject"] for line in events_of(path, Mapping(type="t")).lines] == ["a", "ü"]
    pq.write_table(pa.table({"subject": [b"\xff"]}), path)
    with pytest.raises(TallystickError, match=r"a\.parquet: Column 'subject' holds bytes"):
        events_of(path, Mapping(type="t"))


def test_a_member_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a.ndjson", '{"subject":"a","n":1,"n":2}\n')
    assert [one.code for one in events_of(path, Mapping(type="t")).refused] == ["duplicate_key"]


def test_events_go_in_as_they_are(tmp_path: Path) -> None:
    line = '{"specversion":"1.0","id":"e","type":"t","subject":"s","data":{"n":1.10},"x":"y"}'
    assert events_of(written(tmp_path, "a.ndjson", line)).lines == [line]
    assert events_of(written(tmp_path, "a.json", f"[{line},\n {line}]")).lines == [line, line]
    pretty = json.dumps(json.loads(line), indent=2)
    (made,) = events_of(written(tmp_path, "b.json", pretty)).lines
    assert "\n" not in made
    assert json.loads(made) == json.loads(line)


def test_an_event_without_an_id_gets_one(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "a.ndjson",
        '{"type":"t","subject":"s","data":{"n":1}}\n{ "data":{"n":1.0},"subject":"s","type":"t"}',
    )
    first, second = (json.loads(line) for line in events_of(path).lines)
    assert first["id"].startswith("row-")
    assert second["id"] == first["id"] + "-2"  # the same said in another way: a row equal to the first
    assert second["data"] == {"n": 1.0}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=12),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_does_not_change_the_ids(
    tmp_path_factory: Any, rows: list[tuple[str, int]], chance: Any
) -> None:
    directory = tmp_path_factory.mktemp("rows")
    mapping = Mapping(type="t")

    def ids(listed: list[tuple[str, int]]) -> list[str]:
        text = "subject,n\n" + "".join(f"{subject},{number}\n" for subject, number in listed)
        return events_of(written(directory, "a.csv", text), mapping).ids

    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert sorted(ids(rows)) == sorted(ids(shuffled))
    assert len(set(ids(rows))) == len(rows)


@pytest.mark.parametrize(
    ("mapping", "cell", "expected"),
    [
        ({}, "2026-01-31T10:00:00+02:00", "2026-01-31T10:00:00+02:00"),
        ({}, "2026-01-31 10:00:00Z", "2026-01-31T10:00:00Z"),
        ({"time_zone": "UTC"}, "2026-01-31 10:00:00.1234567", "2026-01-31T10:00:00.1234567Z"),
        ({"time_zone": "Europe/Berlin"}, "2026-07-01T00:30:00", "2026-06-30T22:30:00Z"),
        ({"time_format": "unix"}, "1769853600.25", "2026-01-31T10:00:00.250000Z"),
        ({"time_format": "unix_ms"}, "1769853600250", "2026-01-31T10:00:00.250000Z"),
        ({"time_format": "offset", "time_base": "2025-03-03T00:00:00Z"}, "600", "2025-03-03T00:10:00Z"),
        (
            {"time_format": "offset", "time_base": "2025-03-03T00:00:00Z"},
            "-0.000001",
            "2025-03-02T23:59:59.999999Z",
        ),
        ({}, "2026-01-31T10:00:00", "time_without_zone"),
        ({"time_format": "unix"}, "soon", "invalid_time"),
        ({"time_format": "unix"}, "1e15", "invalid_time"),
        ({"time_zone": "UTC"}, "2026-02-30T10:00:00", "invalid_time"),
    ],
)
def test_times(tmp_path: Path, mapping: dict[str, str], cell: str, expected: str) -> None:
    made = events_of(
        written(tmp_path, "a.csv", f"subject,at\ns,{cell}\n"), Mapping(type="t", time="at", **mapping)
    )
    assert [json.loads(line)["time"] for line in made.lines] + [one.code for one in made.refused] == [
        expected
    ]


def test_parquet_times_without_a_zone_need_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    at = pa.array([datetime(2026, 1, 31, 10, tzinfo=UTC).replace(tzinfo=None)], pa.timestamp("us"))
    pq.write_table(pa.table({"subject": ["s"], "at": at}), path)
    assert [one.code for one in events_of(path, Mapping(type="t", time="at")).refused] == [
        "time_without_zone"
    ]
    (line,) = events_of(path, Mapping(type="t", time="at", time_zone="Asia/Shanghai")).lines
    assert instant_us(json.loads(line)["time"]) == instant_us("2026-01-31T02:00:00Z")


def test_columns_are_chosen_renamed_and_kept_as_text(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "account,plan,n,rest\n815,1,2,3\n")
    (line,) = events_of(
        path, Mapping(type="t", subject="account", data=columns_of("plan, count=n"), text=("plan",))
    ).lines
    event = json.loads(line)
    assert event["subject"] == "815"
    assert event["data"] == {"plan": "1", "count": 2}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_compressed_files(tmp_path: Path, suffix: str) -> None:
    text = b"subject,n\n" + b"s,1\n" * 5000
    packed = {
        "": text,
        ".gz": gzip.compress(text),
        ".zst": zstandard.compress(text[:9000]) + zstandard.compress(text[9000:]),
    }[suffix]
    path = tmp_path / f"a.csv{suffix}"
    path.write_bytes(packed)
    assert len(events_of(path, Mapping(type="t")).lines) == 5000
    path.write_bytes(packed[: len(packed) * 2 // 3])
    if suffix:
        with pytest.raises(TallystickError, match="cannot be read on"):
            events_of(path, Mapping(type="t"))


@pytest.mark.parametrize(
    ("given_mapping", "pointers"),
    [
        ({"type": "t", "type_column": "c"}, ["--type"]),
        ({"time_format": "offset"}, ["--time-base"]),
        (
            {"time_format": "x", "time_zone": "Nowhere/City", "time_base": "x"},
            ["--time-format", "--time-base", "--time-base", "--time-zone"],
        ),
    ],
)
def test_all_faults_of_a_mapping_are_told(given_mapping: dict[str, str], pointers: list[str]) -> None:
    with pytest.raises(Invalid) as caught:
        EventMaker(Mapping(**given_mapping))
    assert [fault.pointer for fault in caught.value.faults] == pointers


def test_a_column_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "subject,n\ns,1\n")
    with pytest.raises(Invalid) as caught:
        events_of(path, Mapping(type="t", id="{x}-{n}", time="y", data=columns_of("n,z")))
    assert [(fault.pointer, fault.detail.split("'")[1]) for fault in caught.value.faults] == [
        ("--time", "y"),
        ("--id", "x"),
        ("--data", "z"),
    ]


@pytest.mark.parametrize("template", ["{a.b}", "{a[0]}", "{}", "{a!r}", "{a:>9}", "{a"])
def test_a_template_holds_names_only(template: str) -> None:
    with pytest.raises(Invalid):
        template_of(template)


def test_a_mapping_file() -> None:
    assert read_mapping({"id": "a", "time-zone": "UTC", "data": ["a", "b"], "text": "a"}) == Mapping(
        id="a", time_zone="UTC", data=(("a", "a"), ("b", "b")), text=("a",)
    )
    assert read_mapping({"data": {"x": "a"}}).data == (("x", "a"),)
    with pytest.raises(Invalid) as caught:
        read_mapping({"ids": "a", "colour": "b"})
    assert len(caught.value.faults) == 2


def test_the_name_tells_the_format() -> None:
    assert format_of("x/Y.JSONL.gz") is FileFormat.NDJSON
    assert format_of("y.parquet") is FileFormat.PARQUET
    assert format_of("y.txt") is None
