"""Configuration as code against a real server: apply, export, apply again; and others who change things meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.cli import apply as command
from tallystick.cli.client import Api
from tallystick.cli.config import NOUNS
from tallystick.cli.config.file import read_file
from tallystick.cli.config.noun import steps_to

from .conftest import KEY, Run, Server

FILE = """
meters:
  - key: config-calls
    event_type: config.call
    aggregation: count
customers:
  - key: config-child
    parent: config-parent
    traits: {rate: 1.5, since: 2026-01-01, tags: [a, {b: null}]}
  - key: config-parent
    name: Parent
    subjects: [config-s1, "config/2"]
    currency: EUR
    timezone: Europe/Berlin
    external_ids: {crm: "17"}
    stage: trial
api_keys:
  - name: config-ingest
    scopes: [events:write]
    expires_at: 2090-01-01T00:00:00Z
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of its own: all that a server holds goes in and out here, and what the documents' commands make is no part of it."""
    running = Server(tmp_path_factory.mktemp("configuration") / "data").start()
    yield running
    running.stop()


def ok(done: Any) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_configuration_goes_in_and_comes_out(server: Server, run: Run, tmp_path: Path) -> None:
    path, back = tmp_path / "config.yaml", tmp_path / "back.yaml"
    path.write_text(FILE)
    assert "Would be done: 4 changed" in ok(run("apply", str(path), "--dry-run"))
    told = ok(run("apply", str(path)))
    secret = told.split("(shown this once): ")[1].split()[0]
    assert (
        httpx.get(f"{server.url}/v1/meters", headers={"authorization": f"Bearer {secret}"}).status_code == 403
    )
    assert "Nothing to do" in ok(run("apply", str(path)))
    ok(run("export-config", "--output", str(back)))
    exported = read_file(back)
    assert {"config-child", "config-parent"} <= {one["key"] for one in exported["customers"]}
    (parent,) = [one for one in exported["customers"] if one["key"] == "config-parent"]
    assert parent == {
        "key": "config-parent",
        "name": "Parent",
        "subjects": ["config-s1", "config/2"],
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "external_ids": {"crm": "17"},
        "stage": "trial",
    }
    assert secret not in back.read_text()
    assert [one["name"] for one in exported["api_keys"]] == ["config-ingest"]  # not the one of the settings
    assert "Nothing to do" in ok(run("apply", str(back), "--prune"))

    path.write_text(
        FILE.replace("stage: trial", "stage: active")
        .replace("config-s1, ", "")
        .replace("[events:write]", "[usage:read]")
    )
    shown = ok(run("apply", str(path), "--dry-run"))
    for line in (
        "~ change customer config-parent",
        "stage: trial → active",
        "subjects - config-s1",
        "~ change API key config-ingest",
        "scopes - events:write",
        "scopes + usage:read",
    ):
        assert line in shown, shown
    ok(run("apply", str(path)))
    assert server.get("/v1/customers/config-parent")["stage"] == "active"
    only = ok(run("export-config", "--only", "api_keys"))
    assert "config-ingest" in only
    assert "customers:\n" not in only
    refused = run("export-config", "--only", "prices")
    assert refused.returncode == 1
    assert "there is no list 'prices'" in refused.stderr


def test_a_change_in_between_is_not_overwritten_unseen(
    server: Server, tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("customers: [{key: config-raced, name: Wanted}]")
    with server.client() as client:
        client.post("/v1/customers", json={"key": "config-raced"}).raise_for_status()
    with Api(server.url, KEY) as api:
        customers = NOUNS[1]
        (step,) = steps_to(customers, read_file(path)["customers"], customers.listed(api), prune=False)
        send, tags = api.send, list[str]()

        def raced(method: str, where: str, **options: Any) -> Any:
            if method == "PATCH":
                tags.append(options["headers"]["if-match"])
                if len(tags) == 1:  # somebody is quicker
                    send("PATCH", where, json={"email": "me@example.com"})
            return send(method, where, **options)

        monkeypatch.setattr(api, "send", raced)
        command._take(api, customers, step)
    assert len(set(tags)) == 2
    now = server.get("/v1/customers/config-raced")
    assert (now["name"], now["email"]) == ("Wanted", "me@example.com")


def test_views_and_reports_come_in_order_and_go_backwards(server: Server, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "reports.yaml"
    path.write_text(
        """
meters:
  - {key: config-seen, event_type: config.seen, aggregation: count}
channels:
  - {key: config-mail, type: email, to: [a@example.com]}
views:
  - {key: config-view, question: {meter: config-seen, range: last-month}}
reports:
  - {key: config-report, view: config-view, schedule: {every: day}, format: csv, channel: config-mail}
"""
    )
    assert "4 changed" in ok(run("apply", str(path)))
    assert "Nothing to do" in ok(run("apply", str(path)))
    path.write_text("views: []\nreports: []\nchannels: []\n")
    told = ok(run("apply", str(path), "--prune"))
    assert told.index("archive report config-report") < told.index("archive view config-view")
    assert told.index("archive report config-report") < told.index("archive channel config-mail")
