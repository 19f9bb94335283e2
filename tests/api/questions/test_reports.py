"""Saved views and scheduled reports over HTTP: who sees what, the files, and that each due time is sent once."""

import base64
import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.questions.live import NOW_US, Live, Tenant, faults, opened
from tests.delivery.receiver import Receiver, receiving, wait_until

from tallystick.catalog.reporting import Reader
from tallystick.catalog.scopes import PORTAL_SCOPES
from tallystick.flows.reports.definitions import reports_of
from tallystick.flows.reports.keeper import ReportKeeper
from tallystick.flows.reports.run import prepared, run_id

QUESTION = {"meter": "tokens", "range": "30d", "timezone": "Europe/Berlin", "group_by": ["model"]}
DAILY = {"every": "day", "hour": 6, "timezone": "Europe/Berlin"}
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def open_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    directory = tmp_path_factory.mktemp("reports")
    with opened(directory, webhook_allow_private="true", public_url="https://usage.example.com/") as live:
        yield live


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def tenant(open_live: Live, receiver: Receiver) -> Tenant:
    open_live.clock.move_to(NOW_US)
    receiver.received.clear()
    made = open_live.tenant()
    made.meter(
        key="tokens",
        event_type="llm",
        aggregation="sum",
        value="$.n",
        dimensions={"model": "$.model"},
        unit="token",
    )
    made.record(
        *(
            {
                "id": f"{day}-{model}",
                "source": "s",
                "type": "llm",
                "subject": "acme",
                "time": f"2026-07-{day:02d}T10:00:00Z",
                "data": {"n": f"{day}.000000000000000001", "model": model},
            }
            for day in range(1, 15)
            for model in ("=large", "small")
        )
    )
    made.post("/v1/channels", {"key": "ops", "type": "webhook", "url": receiver.url(f"/{made.key}")})
    return made


def saved(tenant: Tenant, key: str = "by-model", **members: Any) -> dict[str, Any]:
    answer = tenant.post("/v1/views", {"key": key, "question": QUESTION, "visibility": "shared", **members})
    assert answer.status_code == 201, answer.text
    return answer.json()


def scheduled(tenant: Tenant, key: str = "daily", **members: Any) -> dict[str, Any]:
    body = {"key": key, "view": "by-model", "schedule": DAILY, "format": "csv", "channel": "ops", **members}
    answer = tenant.post("/v1/reports", body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def looked(live: Live) -> int:
    return live.run(ReportKeeper(live.system).look())


def test_a_view_is_saved_replaced_and_archived(tenant: Tenant) -> None:
    made = saved(tenant, name="By model")
    assert made["path"] == ("/explore?meter=tokens&range=30d&zone=Europe%2FBerlin&group=model&top=8")
    assert (made["mine"], made["owner"]) == (True, "admin")
    assert faults(tenant.post("/v1/views", {"key": "x", "question": {"meter": "no", "colour": 1}})) == [
        ("/question/colour", "unknown_member")
    ]
    wrong = {"key": "x", "question": {**QUESTION, "group_by": ["region"], "filter": {"zone": {"eq": "a"}}}}
    assert faults(tenant.post("/v1/views", wrong)) == [
        ("/question/group_by/0", "unknown_dimension"),
        ("/question/filter/zone", "unknown_dimension"),
    ]
    assert tenant.post("/v1/views", {"key": "by-model", "question": QUESTION}).json()["code"] == "view_exists"
    read = tenant.get("/v1/views/by-model")
    tag = {"if-match": read.headers["etag"]}
    assert tenant.get("/v1/views/by-model", headers={"if-none-match": tag["if-match"]}).status_code == 304
    other = {"question": {"meter": "tokens"}, "visibility": "shared"}
    changed = tenant.send("PUT", "/v1/views/by-model", json=other, headers=tag)
    assert changed.json()["question"]["group_by"] == []
    assert tenant.send("PUT", "/v1/views/by-model", json=other, headers=tag).status_code == 412
    assert faults(tenant.send("PUT", "/v1/views/by-model", json={**other, "key": "b"})) == [
        ("/key", "key_immutable")
    ]
    scheduled(tenant)
    assert tenant.send("DELETE", "/v1/views/by-model").json()["code"] == "view_in_use"
    assert tenant.send("DELETE", "/v1/reports/daily").status_code == 204
    assert tenant.send("DELETE", "/v1/views/by-model").status_code == 204
    assert tenant.answer("/v1/views")["items"] == []
    assert [one["key"] for one in tenant.answer("/v1/views?archived=true")["items"]] == ["by-model"]
    assert saved(tenant)["archived_at"] is None, "its key may be used again"
    actions = {one["action"] for one in tenant.answer("/v1/audit")["items"]}
    assert {"view.create", "view.change", "view.archive", "report.create", "report.archive"} <= actions


def test_a_private_view_is_its_owners(tenant: Tenant) -> None:
    ann = tenant.with_scopes("usage:read", "alerts:read", "alerts:write")
    ben = tenant.with_scopes("usage:read", "alerts:read", "alerts:write")
    saved(ann, visibility="private")
    scheduled(ann)
    assert ben.answer("/v1/views")["items"] == []
    assert ben.get("/v1/views/by-model").status_code == 404
    assert ben.answer("/v1/reports")["items"] == []
    for method, path in (
        ("GET", "/v1/reports/daily"),
        ("GET", "/v1/reports/daily/runs"),
        ("POST", "/v1/reports/daily/run"),
        ("DELETE", "/v1/reports/daily"),
        ("DELETE", "/v1/views/by-model"),
    ):
        assert ben.send(method, path).status_code == 404, path
    body = {"key": "mine", "view": "by-model", "schedule": DAILY, "format": "csv", "channel": "ops"}
    assert faults(ben.post("/v1/reports", body)) == [("/view", "unknown_view")]
    assert [one["mine"] for one in tenant.answer("/v1/views")["items"]] == [False], "an admin sees all"
    assert (
        ann.send("PUT", "/v1/views/by-model", json={"question": QUESTION, "visibility": "shared"}).status_code
        == 200
    )
    assert ben.get("/v1/views/by-model").status_code == 200
    refused = ben.send("PUT", "/v1/views/by-model", json={"question": QUESTION})
    assert (refused.status_code, refused.json()["code"]) == (403, "other_owner")


def test_other_tenants_and_customers_see_nothing(open_live: Live, tenant: Tenant) -> None:
    saved(tenant)
    scheduled(tenant)
    run = tenant.post("/v1/reports/daily/run").json()
    stranger = open_live.tenant()
    assert stranger.answer("/v1/views")["items"] == []
    assert stranger.answer("/v1/reports")["items"] == []
    file = f"/v1/reports/daily/runs/{run['id']}/file"
    for path in ("/v1/views/by-model", "/v1/reports/daily", "/v1/reports/daily/runs", file):
        assert stranger.get(path).status_code == 404
    saved_there = stranger.post("/v1/views", {"key": "by-model", "question": QUESTION})
    assert faults(saved_there) == [("/question/meter", "unknown_meter")]
    tenant.post("/v1/customers", {"key": "acme"})
    made = tenant.post("/v1/portal_tokens", {"customer": "acme", "scopes": list(PORTAL_SCOPES)}).json()
    token = Tenant(open_live, tenant.key, made["token"])
    for path in ("/v1/views", "/v1/reports", "/v1/views/by-model", "/v1/reports/daily", file):
        assert token.get(path).status_code == 403
    assert token.post("/v1/reports/daily/run").status_code == 403


def test_a_report_needs_its_parts(tenant: Tenant) -> None:
    saved(tenant)
    body = {"key": "r", "view": "no", "schedule": DAILY, "format": "csv", "channel": "no"}
    assert faults(tenant.post("/v1/reports", body)) == [
        ("/view", "unknown_view"),
        ("/channel", "unknown_channel"),
    ]
    tenant.post("/v1/customers", {"key": "acme"})
    tenant.post(
        "/v1/channels", {"key": "theirs", "type": "email", "to": ["a@example.com"], "customer": "acme"}
    )
    theirs = {**body, "view": "by-model", "channel": "theirs"}
    assert faults(tenant.post("/v1/reports", theirs)) == [("/channel", "unknown_channel")]
    blind = tenant.with_scopes("alerts:write")
    refused = blind.post("/v1/reports", {**body, "view": "by-model", "channel": "ops"})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")


def test_the_csv_is_the_usage_apis(tenant: Tenant, receiver: Receiver) -> None:
    saved(tenant, question={**QUESTION, "compare": "previous"})
    scheduled(tenant)
    run = tenant.post("/v1/reports/daily/run").json()
    assert (run["status"], run["kind"], run["missed"], run["error"]) == ("sent", "manual", 0, None)
    usage = tenant.answer(
        "/v1/meters/tokens/usage",
        params={
            "from": run["from"],
            "to": run["to"],
            "timezone": "Europe/Berlin",
            "window": "day",
            "group_by": "model",
            "order_by": "-value",
            "limit": 8,
            "compare": "previous",
        },
    )
    [got] = receiver.wait_for(1, f"/{tenant.key}")
    data = got.document["data"]
    assert (got.document["type"], data["report"], data["view"]) == ("report.ready", "daily", "by-model")
    assert data["page"].startswith("https://usage.example.com/explore?meter=tokens&")
    assert data["file"]["url"] == f"https://usage.example.com/v1/reports/daily/runs/{run['id']}/file"
    file = tenant.get(f"/v1/reports/daily/runs/{run['id']}/file")
    assert file.headers["content-type"].startswith("text/csv")
    assert (data["content"]["encoding"], data["content"]["text"]) == ("utf-8", file.text)
    rows = list(csv.DictReader(io.StringIO(file.text)))
    assert [
        (
            row["window_start"],
            row["model"].removeprefix("'"),
            row["value"],
            row["previous"],
            row["change_percent"],
        )
        for row in rows
    ] == [
        (
            row["window_start"],
            row["group"]["model"],
            row["value"],
            row["previous"] or "",
            row["change_percent"] or "",
        )
        for row in usage["rows"]
    ]
    assert len(rows) == 28
    assert {row["model"] for row in rows} == {"'=large", "small"}, "no spreadsheet takes it for a formula"
    delivery = wait_until(
        lambda: (one := tenant.answer(f"/v1/deliveries/{run['delivery']}"))["status"] == "delivered" and one
    )
    assert delivery["kind"] == "report.ready"


def test_a_pdf_and_a_formula(tenant: Tenant, receiver: Receiver) -> None:
    saved(tenant, name="#let x = 1 <script>", question={**QUESTION, "compare": "previous"})
    scheduled(tenant, format="pdf", enabled=False)
    assert tenant.answer("/v1/reports/daily")["next_due_at"] is None
    run = tenant.post("/v1/reports/daily/run").json()
    file = tenant.get(f"/v1/reports/daily/runs/{run['id']}/file")
    assert file.content.startswith(b"%PDF")
    assert run["file"]["bytes"] == len(file.content)
    [got] = receiver.wait_for(1, f"/{tenant.key}")
    content = got.document["data"]["content"]
    assert base64.b64decode(content["text"]) == file.content
    formula = {"meter": "tokens", "formula": "a * 2", "range": "month"}
    assert tenant.send("PUT", "/v1/views/by-model", json={"question": formula}).status_code == 200
    tenant.send(
        "PUT",
        "/v1/reports/daily",
        json={"view": "by-model", "schedule": DAILY, "format": "csv", "channel": "ops"},
    )
    run = tenant.post("/v1/reports/daily/run").json()
    rows = list(csv.DictReader(io.StringIO(tenant.get(f"/v1/reports/daily/runs/{run['id']}/file").text)))
    assert (rows[0]["tokens"], rows[0]["value"]) == ("2.000000000000000002", "4.000000000000000004")


def test_each_due_time_is_sent_once_and_the_newest_after_an_absence(
    open_live: Live, tenant: Tenant, receiver: Receiver
) -> None:
    saved(tenant)
    made = scheduled(tenant)
    assert made["next_due_at"] == "2026-07-16T04:00:00Z"
    assert looked(open_live) == 0
    open_live.clock.move_to(NOW_US + DAY_US)
    looked(open_live)
    looked(open_live)
    [run] = tenant.answer("/v1/reports/daily/runs")["items"]
    assert (run["kind"], run["due_at"], run["to"], run["missed"]) == (
        "scheduled",
        "2026-07-16T04:00:00Z",
        "2026-07-16T04:00:00Z",
        0,
    )
    assert tenant.answer("/v1/reports/daily")["next_due_at"] == "2026-07-17T04:00:00Z"
    open_live.clock.move_to(NOW_US + 5 * DAY_US)
    looked(open_live)
    newest = tenant.answer("/v1/reports/daily/runs")["items"][0]
    assert (newest["due_at"], newest["missed"]) == ("2026-07-20T04:00:00Z", 3)
    assert len(receiver.wait_for(2, f"/{tenant.key}")) == 2
    assert len({one.id for one in receiver.at(f"/{tenant.key}")}) == 2


def test_of_two_who_work_one_out_one_sends_it(open_live: Live, tenant: Tenant) -> None:
    saved(tenant)
    scheduled(tenant, schedule={"every": "day", "hour": 3, "timezone": "UTC"})
    system, catalog = open_live.system, reports_of(open_live.system)
    kept = catalog.report(tenant.key, "daily", reader=Reader("", "", sees_all=True))
    due_us = kept.next_due_us or 0
    run = open_live.run(
        prepared(system, kept, run_id(kept, due_us), kind="scheduled", due_us=due_us, missed=0)
    )
    assert catalog.write_run(kept, run, next_due_us=due_us + DAY_US, now_us=due_us) == run.id
    assert catalog.write_run(kept, run, next_due_us=due_us + DAY_US, now_us=due_us) is None
    assert len(tenant.answer("/v1/reports/daily/runs")["items"]) == 1
    assert len(tenant.answer("/v1/deliveries")["items"]) == 1


def test_what_fails_is_written_down(tenant: Tenant) -> None:
    saved(tenant)
    scheduled(tenant)
    channel = {"name": "ops", "url": "http://127.0.0.1:9/", "enabled": False}
    assert tenant.send("PUT", "/v1/channels/ops", json=channel).status_code == 200
    run = tenant.post("/v1/reports/daily/run").json()
    assert (run["status"], run["error"], run["delivery"]) == ("failed", "unknown_channel", None)
