"""`/v1/exports` on the real parts: what is recorded is in the files of exactly one manifest."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.api.questions.lake_reader import manifests_of, rows_of
from tests.api.questions.live import Live, Tenant, faults, opened

from .test_backtest import begun

RECIPE = Path(__file__).parents[3] / "docs/howto/continuous-export.md"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, lake: Path) -> Iterator[Live]:
    with opened(
        tmp_path_factory.mktemp("live"), export_urls=f"s3://elsewhere, file://{lake}/allowed"
    ) as made:
        yield made


def event(number: int, **members: Any) -> dict[str, Any]:
    at = f"2026-07-{1 + number % 3:02d}T{number % 24:02d}:00:00Z"
    given = {"id": f"e{number}", "type": "call", "subject": "acme", "time": at}
    return {**given, "data": {"n": number, "model": "a" if number % 2 else None}, **members}


def until(answer: Callable[[], Any]) -> Any:
    """What it answers once that is true."""
    end_s = time.monotonic() + 90
    while not (found := answer()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return found


def begin(tenant: Tenant, lake: Path, key: str, what: str, **members: Any) -> Path:
    given = {"key": key, "what": what, "url": f"file://{lake}/allowed", **members}
    made = tenant.post("/v1/exports", given)
    assert made.status_code == 201, made.text
    return lake / "allowed" / tenant.key / key


def exported(tenant: Tenant, key: str) -> dict[str, Any]:
    """Run it now; its state when it has everything."""
    tenant.live.clock.advance(seconds=1)
    asked = tenant.post(f"/v1/exports/{key}/run")
    assert asked.status_code == 202, asked.text

    def state() -> dict[str, Any] | None:
        found = tenant.answer(f"/v1/exports/{key}")["state"]
        return found if found["lag_seconds"] == 0 and found["status"] == "waiting" else None

    return until(state)


def test_every_event_is_in_one_file_and_a_correction_takes_back(tenant: Tenant, lake: Path) -> None:
    tenant.record(*(event(number) for number in range(40)))
    root = begin(tenant, lake, "all", "events", partitioning="hour")
    exported(tenant, "all")
    tenant.record(*(event(number) for number in range(30, 50)))
    corrected = tenant.post(
        "/v1/events/corrections",
        {
            "reason": "wrong",
            "retract": [{"source": "/", "id": "e1"}],
            "replace": [event(2, data={"n": 1000, "model": "b"})],
        },
    )
    assert corrected.status_code == 200, corrected.text
    state = exported(tenant, "all")
    found = manifests_of(root)
    assert len(found) == state["manifests"] >= 2
    rows = rows_of(root)
    assert len(rows) == state["rows"] == 50 + 3
    kept = Counter[tuple[str, str]]()
    for row in rows:
        kept[row["id"], row["data"]] += row["sign"]
    counted = {name for (name, _), sign in kept.items() if sign}
    assert set(kept.values()) <= {0, 1}
    assert counted == {f"e{number}" for number in range(50)} - {"e1"}
    assert {one["partition"]["date"] for manifest in found for one in manifest["files"]} == {
        "2026-07-01",
        "2026-07-02",
        "2026-07-03",
    }
    nothing_more = exported(tenant, "all")
    assert nothing_more["manifests"] == state["manifests"]


def test_the_sum_over_manifests_is_usage(tenant: Tenant, lake: Path) -> None:
    tenant.meter(key="n", event_type="call", aggregation="sum", value="$.n", dimensions={"model": "$.model"})
    root = begin(tenant, lake, "usage", "usage", prefix="some/where")
    root = lake / "allowed" / "some" / "where" / tenant.key / "usage"
    tenant.record(*(event(number) for number in range(20)))
    exported(tenant, "usage")
    tenant.record(*(event(number, subject=f"c{number % 3}") for number in range(20, 60)))
    retracted = {"reason": "wrong", "retract": [{"source": "/", "id": "e59"}, {"source": "/", "id": "e3"}]}
    assert tenant.post("/v1/events/corrections", retracted).status_code == 200
    tenant.meter(key="calls", event_type="call", aggregation="count")  # comes with all its past
    exported(tenant, "usage")
    rows = rows_of(root)
    for meter in ("n", "calls"):
        asked = {"from": "2026-07-01T00:00:00Z", "to": "2026-08-01T00:00:00Z", "group_by": ["customer"]}
        answer = tenant.post(f"/v1/meters/{meter}/usage", asked).json()
        expected = {row["group"]["customer"]: Decimal(row["value"]) for row in answer["rows"]}
        summed = Counter[str]()
        for row in rows:
            if row["meter"] == meter:
                summed[row["customer"]] += row["value"] * row["sign"]
        assert dict(summed) == expected
    assert {row["dimensions"][0] for row in rows if row["meter"] == "n"} == {("model", "a"), ("model", None)}
    parts = [part for manifest in manifests_of(root) for part in manifest["meters"]]
    assert [part["from"] for part in parts if part["meter"] == "calls"] == [None]

    asked = {
        "from": "2026-07-01T00:00:00Z",
        "to": "2026-08-01T00:00:00Z",
        "group_by": ["customer"],
        "window": "day",
    }
    expected = {
        (row["group"]["customer"], row["window_start"][:10]): Decimal(row["value"])
        for row in tenant.post("/v1/meters/n/usage", asked).json()["rows"]
    }
    found = {
        (customer, str(day)): value
        for meter, customer, day, value in by_recipe(root)
        if meter == "n" and value
    }
    assert found == {place: value for place, value in expected.items() if value}


def by_recipe(root: Path) -> list[tuple[Any, ...]]:
    """The SQL of docs/howto/continuous-export.md."""
    recipe = re.search(r"```sql\n(.*?)```", RECIPE.read_text(), re.DOTALL)
    assert recipe is not None
    with duckdb.connect() as lakehouse:
        lakehouse.execute("SET autoinstall_known_extensions = false")
        return lakehouse.execute(recipe[1].replace("/var/exports/default/usage", str(root))).fetchall()


def test_invoices_that_became_final_and_void(tenant: Tenant, lake: Path) -> None:
    begun(tenant, 2)
    root = begin(tenant, lake, "invoices", "invoices", partitioning="none")
    assert tenant.post("/v1/billing/run", {"at": "2026-06-01T02:00:00Z"}).status_code == 200
    exported(tenant, "invoices")
    every = [one for one in tenant.answer("/v1/invoices")["items"] if one["status"] == "finalized"]
    assert every
    assert tenant.post(f"/v1/invoices/{every[0]['id']}/void").status_code == 200
    assert tenant.post("/v1/billing/run", {"at": "2026-07-01T02:00:00Z"}).status_code == 200
    exported(tenant, "invoices")
    rows = rows_of(root)
    now = [one for one in tenant.answer("/v1/invoices")["items"] if one["status"] == "finalized"]
    assert sum(row["total"] * row["sign"] for row in rows) == sum(Decimal(one["total"]) for one in now)
    assert len(rows) == len(now) + 2
    assert all(sum(line["rounded"] for line in row["lines"]) == row["subtotal"] for row in rows)


def test_what_is_refused(tenant: Tenant, lake: Path) -> None:
    given = {"key": "x", "what": "usage", "url": f"file://{lake}/elsewhere"}
    assert faults(tenant.post("/v1/exports", given)) == [("/url", "export_url_not_allowed")]
    climbing = given | {"url": f"file://{lake}/allowed/../elsewhere", "every": "PT1S", "prefix": "../up"}
    assert faults(tenant.post("/v1/exports", climbing)) == [
        ("/url", "export_url_not_allowed"),
        ("/prefix", "invalid_value"),
        ("/every", "invalid_period"),
    ]
    assert faults(tenant.post("/v1/exports", {"key": "x"})) == [("/what", "missing"), ("/url", "missing")]
    near = given | {"url": f"file://{lake}/allowed-not"}
    assert tenant.post("/v1/exports", near).status_code == 422
    unknown = given | {"url": f"file://{lake}/allowed", "meters": ["none"]}
    assert faults(tenant.post("/v1/exports", unknown)) == [("/meters/0", "meter_not_found")]
    assert tenant.get("/v1/exports/x").json()["code"] == "export_not_found"


def test_paused_changed_deleted_and_made_again(tenant: Tenant, lake: Path) -> None:
    root = begin(tenant, lake, "a", "events")
    tenant.record(event(1))
    exported(tenant, "a")
    shown = tenant.get("/v1/exports/a")
    paused = tenant.send(
        "PATCH",
        "/v1/exports/a",
        json={"paused": True, "every": "PT1H"},
        headers={"If-Match": shown.headers["etag"]},
    )
    assert (paused.json()["paused"], paused.json()["every"], paused.json()["state"]["status"]) == (
        True,
        "PT1H",
        "paused",
    )
    late = tenant.send(
        "PATCH", "/v1/exports/a", json={"paused": False}, headers={"If-Match": shown.headers["etag"]}
    )
    assert late.status_code == 412
    assert [one["key"] for one in tenant.answer("/v1/exports")["items"]] == ["a"]
    assert tenant.send("DELETE", "/v1/exports/a").status_code == 204
    assert len(rows_of(root)) == 1
    begin(tenant, lake, "a", "events")

    def failing() -> Any:
        state = tenant.answer("/v1/exports/a")["state"]
        return state["error"]

    assert until(failing)["code"] == "export_place_taken"
    assert len(rows_of(root)) == 1


def test_tenants_do_not_see_each_other(tenant: Tenant, live: Live, lake: Path) -> None:
    other = live.tenant()
    begin(tenant, lake, "own", "events")
    other.record(event(1))
    assert other.get("/v1/exports/own").status_code == 404
    assert other.answer("/v1/exports")["items"] == []
    exported(tenant, "own")
    assert tenant.answer("/v1/exports/own")["state"]["rows"] == 0


def test_metrics_tell_how_far_it_is(live: Live) -> None:
    text = live.send("GET", "/metrics").text
    assert "tallystick_exports_lag_seconds" in text
    assert "tallystick_export_rows_total" in text
