"""Plans, subscriptions and retention as code, against a real server."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tallystick.cli import apply as command
from tallystick.errors import TallystickError

from .conftest import KEY, Run, Server

FILE = """
meters:
  - {key: code-calls, event_type: code.call, aggregation: count, dimensions: {model: $.model}}
customers:
  - key: code-acme
plans:
  - key: code-pro
    currency: USD
    publish: true
    charges:
      - {key: base, price: {model: flat, amount: 49}}
      - key: calls
        meter: code-calls
        filter: {model: {eq: large}}
        price: {model: graduated, tiers: [{up_to: 100, unit_amount: 0.15}, {up_to: null, unit_amount: "0.1"}]}
      - {key: seats, price: {model: per_unit, unit_amount: 5}}
    add_ons:
      - {key: support, charges: [{key: support, price: {model: flat, amount: 10}}]}
subscriptions:
  - key: code-acme-pro
    customer: code-acme
    plan: code-pro
    start: 2026-01-01T00:00:00Z
    quantities: {seats: 3}
    add_ons: {support: 1}
retention:
  - {type: code.call, keep_days: 730}
"""


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_prices_go_in_come_out_and_change(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "billing.yaml"

    def applied(document: Any, *, dry_run: bool = False, prune: bool = False) -> list[str]:
        # In this process: a command of its own takes a second to start.
        file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        command.apply(file, dry_run, prune, server.url, KEY)
        said = capsys.readouterr()
        return _lines(said.out + said.err)

    assert "Would be done: 5 changed, 0 unchanged." in applied(FILE, dry_run=True)
    assert server.get("/v1/plans")["items"] == []
    assert "Done: 5 changed, 0 unchanged." in applied(FILE)
    plan = server.get("/v1/plans/code-pro")
    assert (plan["status"], plan["version"]) == ("published", 1)
    assert plan["charges"][1]["price"]["tiers"][0]["unit_amount"] == "0.15"
    assert any("Nothing to do" in line for line in applied(FILE))

    # What is exported is what was applied.
    exported = tmp_path / "exported.yaml"
    command.export_config(exported, ["plans", "subscriptions", "retention"], server.url, KEY)
    assert any("Nothing to do" in line for line in applied(exported.read_text()))

    # A published plan never changes: a draft comes of it, and is published only where the file says so.
    document = yaml.safe_load(FILE)
    document["plans"][0]["charges"][0]["price"]["amount"] = 59
    document["plans"][0]["charges"][1]["price"]["tiers"][0]["up_to"] = 200
    del document["plans"][0]["publish"]
    said = applied(document, dry_run=True)
    assert "charges ~ base price.amount: 49 → 59" in said
    assert "charges ~ calls price.tiers.0.up_to: 100 → 200" in said
    assert server.get("/v1/plans/code-pro")["version"] == 1
    applied(document)
    versions = server.get("/v1/plans/code-pro/versions")["items"]
    assert [(one["version"], one["status"]) for one in versions] == [(1, "published"), (2, "draft")]
    assert any("Nothing to do" in line for line in applied(document))
    document["plans"][0]["publish"] = True
    assert "publish: False → True" in applied(document)
    assert server.get("/v1/plans/code-pro")["status"] == "published"

    # A subscription moves to the version that is named, takes seats, and ends.
    own = document["subscriptions"][0]
    own |= {"version": 2, "quantities": {"seats": 4}, "add_ons": {"support": 0}}
    applied(document)
    (shown,) = [one for one in server.get("/v1/subscriptions")["items"] if one["key"] == "code-acme-pro"]
    assert (shown["version"], shown["quantities"][-1]["quantity"]) == (2, "4")
    assert shown["add_ons"][-1]["quantity"] == "0"
    assert any("Nothing to do" in line for line in applied(document))
    own["end"] = "2099-01-01T00:00:00Z"
    applied(document)
    assert server.get(f"/v1/subscriptions/{shown['id']}")["end"] == "2099-01-01T00:00:00Z"
    own["end"] = None
    applied(document)
    assert server.get(f"/v1/subscriptions/{shown['id']}")["end"] is None
    own["start"] = "2026-02-01T00:00:00Z"
    with pytest.raises(TallystickError, match="start cannot be changed"):
        applied(document, dry_run=True)
    own["start"] = "2026-01-01T00:00:00Z"

    document["retention"] = [{"type": "code.other", "keep_days": 30}]
    applied(document, prune=True)
    kept = {one["type"]: one["keep_days"] for one in server.get("/v1/retention")["items"]}
    assert (kept["code.call"], kept["code.other"]) == (None, 30)
    assert any("Nothing to do" in line for line in applied(document, prune=True))


def test_what_cannot_be_read_exactly_is_refused_with_its_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "billing.yaml"
    file.write_text(
        "plans:\n  - key: a\n    currency: EURO\n    charges:\n"
        "      - {key: b, price: {model: per_unit, unit_amount: 0.12345678901234567}}\n"
        "subscriptions:\n  - {key: a, customer: b}\nretention:\n  - {type: a, keep_days: 0}\n"
    )
    done = run("apply", str(file), "--dry-run")
    assert done.returncode != 0
    for told in ("quote a number", "plan is required", "keep_days is 1 or more"):
        assert told in done.stderr, done.stderr


def test_retention_and_tenants_are_changed_only_as_they_were_read(server: Server) -> None:
    with server.client() as client:
        listed = client.get("/v1/retention")
        body = {"type": "etag.type", "keep_days": 10}
        first = client.put("/v1/retention", json=body, headers={"if-match": listed.headers["etag"]})
        assert first.status_code == 200, first.text
        stale = client.put("/v1/retention", json=body, headers={"if-match": listed.headers["etag"]})
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
        again = client.put("/v1/retention", json=body, headers={"if-match": first.headers["etag"]})
        assert again.status_code == 200
        client.post("/v1/tenants", json={"key": "etag-tenant", "name": "A"})
        read = client.get("/v1/tenants/etag-tenant")
        tag = {"if-match": read.headers["etag"]}
        assert client.patch("/v1/tenants/etag-tenant", json={"name": "B"}, headers=tag).status_code == 200
        assert client.patch("/v1/tenants/etag-tenant", json={"name": "C"}, headers=tag).status_code == 412
        assert client.get("/v1/tenants/etag-tenant").json()["name"] == "B"
