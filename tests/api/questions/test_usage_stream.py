"""Usage answers larger than what is held in memory: the same rows, streamed, and never half of them as if they were all."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.api.questions.live import Live, Tenant, faults, opened
from tests.api.questions.test_usage_columns import read, rows_of

from tallystick.api.formats import ARROW, CSV, PARQUET
from tallystick.api.streaming import column_pieces
from tallystick.errors import Invalid, TimedOut, Unavailable
from tallystick.flows.stream import UsageStream, usage_stream
from tallystick.flows.system import System
from tallystick.flows.usage import UsageRequest
from tallystick.metering.instant import instant_text

ROWS_MAX = 60
DAYS, CUSTOMERS, MODELS = 8, 13, ("a,b", "m", None)
FROM_US = 1_782_864_000_000_000  # 2026-07-01
DAY_US = 86_400_000_000
ASKED = {"window": "day", "group_by": ["model", "customer"]}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with opened(tmp_path_factory.mktemp("live"), usage_rows_max=ROWS_MAX, usage_streams_max=2) as made:
        yield made


@pytest.fixture(scope="module")
def metered(live: Live) -> Tenant:
    """Usage of every customer with every model on every day but the second and third."""
    tenant = live.tenant()
    tenant.meter(
        key="n",
        event_type="llm",
        aggregation="sum",
        value="$.n",
        dimensions={"model": "$.model"},
    )
    tenant.meter(key="mean", event_type="llm", aggregation="average", value="$.n")
    events: list[dict[str, Any]] = []
    for day in set(range(DAYS)) - {1, 2}:
        for customer in range(CUSTOMERS):
            for place, model in enumerate(MODELS):
                data = {"n": f"{day * 1000 + customer}.{place}5", "model": model}
                time = instant_text(FROM_US + day * DAY_US + customer * 60_000_000)
                one = {"source": "/s", "type": "llm", "subject": f"c{customer}", "time": time, "data": data}
                events.append({"id": f"{day}-{customer}-{place}", **one})
    tenant.record(*events)
    return tenant


def ask(tenant: Tenant, kind: str, days: tuple[int, int] = (0, DAYS), meter: str = "n", **more: Any) -> Any:
    first, last = (instant_text(FROM_US + day * DAY_US) for day in days)
    members = {**ASKED, "from": first, "to": last, **more}
    return tenant.post(f"/v1/meters/{meter}/usage", members, headers={"accept": kind})


def day_by_day(tenant: Tenant, **more: Any) -> list[dict[str, Any]]:
    """The rows of the JSON answers, each small enough."""
    rows: list[dict[str, Any]] = []
    for day in range(DAYS):
        response = ask(tenant, "application/json", (day, day + 1), **more)
        assert response.status_code == 200, response.text
        rows += response.json()["rows"]
    return rows


@pytest.mark.parametrize("kind", [PARQUET, ARROW])
def test_columns_of_any_size_say_what_json_says(metered: Tenant, kind: str) -> None:
    expected = day_by_day(metered)
    assert len(expected) == (DAYS - 2) * CUSTOMERS * len(MODELS) > 3 * ROWS_MAX
    response = ask(metered, kind)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == kind
    assert response.headers["tallystick-position"]
    table = read(response.content, kind)
    assert rows_of(table, ("model", "customer")) == expected
    small = read(ask(metered, kind, (3, 4)).content, kind)
    assert small.schema.remove_metadata() == table.schema.remove_metadata()
    assert set(small.schema.metadata) == set(table.schema.metadata)


def test_csv_of_any_size_says_what_json_says(metered: Tenant) -> None:
    response = ask(metered, CSV)
    assert response.headers["content-type"].startswith(CSV)
    found = list(csv.reader(io.StringIO(response.text, newline="")))
    assert found[0] == ["window_start", "window_end", "model", "customer", "value"]
    assert found[1:] == [
        [
            row["window_start"],
            row["window_end"],
            row["group"]["model"] or "",
            row["group"]["customer"],
            row["value"],
        ]
        for row in day_by_day(metered)
    ]


def test_filled_windows_and_groups_by_value(metered: Tenant) -> None:
    filled = rows_of(read(ask(metered, ARROW, fill="zero").content, ARROW), ("model", "customer"))
    assert len(filled) == DAYS * CUSTOMERS * len(MODELS)
    assert [row for row in filled if row["value"] != "0"] == day_by_day(metered)
    best = ask(metered, ARROW, order_by="-value", limit=12, window="hour", fill="zero")
    ranked = rows_of(read(best.content, ARROW), ("model", "customer"))
    one_window = ask(metered, "application/json", order_by="-value", limit=12, window=None).json()["rows"]
    assert len(ranked) == 12 * DAYS * 24
    assert [row["group"] for row in ranked[:12]] == [row["group"] for row in one_window]


def test_json_and_comparisons_keep_the_smaller_bound(metered: Tenant) -> None:
    assert ask(metered, "application/json").json()["code"] == "too_many_rows"
    assert ask(metered, PARQUET, compare="previous").json()["code"] == "too_many_rows"
    assert faults(ask(metered, PARQUET, group_by=["nothing"])) == [("/group_by", "unknown_dimension")]


# -- beneath HTTP ------------------------------------------------------------------------------------------------------
def begin(tenant: Tenant, system: System | None = None) -> UsageStream:
    request = UsageRequest(
        tenant.key, "n", FROM_US, FROM_US + DAYS * DAY_US, window="day", group_by=("model", "customer")
    )
    return tenant.live.run(usage_stream(system or tenant.live.system, request))


def test_more_rows_than_may_be_streamed(metered: Tenant) -> None:
    system = metered.live.system
    small = replace(system, settings=replace(system.settings, usage_stream_rows_max=200))
    for _ in range(3):  # a refusal takes no place
        with pytest.raises(Invalid, match="usage_stream_rows_max") as refused:
            begin(metered, small)
        assert refused.value.code == "too_many_rows"


def test_streams_have_places_and_give_them_back(metered: Tenant) -> None:
    first, second = begin(metered), begin(metered)
    with pytest.raises(Unavailable, match="usage_streams_max"):
        begin(metered)
    assert ask(metered, CSV).status_code == 503
    first.batches.close()
    first.batches.close()
    assert sum(block.num_rows for block in second.batches) == second.extent.rows
    for found in (begin(metered), begin(metered)):
        next(found.batches)
        found.batches.close()


def test_who_is_too_slow_is_told_so(metered: Tenant) -> None:
    found = begin(metered)
    found.batches.expire(7)
    with pytest.raises(TimedOut, match="within 7 s"):
        next(found.batches)


@pytest.mark.parametrize("kind", [PARQUET, ARROW])
def test_an_answer_whose_readings_went_missing_is_not_ended(metered: Tenant, kind: str) -> None:
    whole = b"".join(column_pieces(begin(metered), kind))
    found = begin(metered)
    assert found.head.served_from == "readings"
    pieces = column_pieces(found, kind)
    sent = next(pieces)
    meter = metered.live.system.catalog.meter(metered.key, "n", None)
    metered.live.system.store.delete_readings([meter.id])
    rest: list[bytes] = []
    with pytest.raises(Unavailable, match="went missing"):
        rest.extend(pieces)
    assert len(sent + b"".join(rest)) < len(whole)
    # Meanwhile the events answer, and then the readings again.
    again = begin(metered)
    assert again.head.served_from in ("events", "readings")
    assert read(column_pieces(again, kind), kind).num_rows == found.extent.rows
    for _ in range(200):
        found = begin(metered)
        found.batches.close()
        if found.head.served_from == "readings":
            break
    assert found.head.served_from == "readings"
