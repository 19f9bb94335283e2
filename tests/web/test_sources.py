"""The page of sources: one at work, what it could not take, mended and retried."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.faults.server import KEY, Server
from tests.web.checks import serious
from tests.web.desk import Desk, Office

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("folder")
    rows = [
        {"id": f"row-{n}", "type": "llm.completion", "subject": "acme", "data": {"tokens": n}}
        for n in range(1, 8)
    ]
    rows.append({"id": "row-8", "type": "llm.completion", "data": {"tokens": 8}})
    (made / "usage.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


@pytest.fixture(scope="module")
def server(built: None, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("sources") / "data", source_dirs=str(folder))
    made.start()
    yield made
    made.end()


@pytest.fixture
def desk(office: Office, browser: Browser, pictures: Path) -> Iterator[Desk]:
    made = Desk(office, browser, KEY, pictures)
    yield made
    made.close()


def test_a_source_is_seen_at_work_and_its_dead_letter_mended(desk: Desk, folder: Path, axe: str) -> None:
    page = desk.open("/sources")
    expect(page.get_by_role("main")).to_contain_text("No source yet")
    desk.make(
        "/v1/meters",
        {"key": "tokens", "event_type": "llm.completion", "aggregation": "sum", "value": "$.tokens"},
    )
    desk.make(
        "/v1/sources",
        {"key": "inbox", "kind": "folder", "settings": {"dir": str(folder), "settle_seconds": 0}},
    )
    page = desk.open("/sources")
    letters = page.get_by_role("table", name="Dead letters")
    for _ in range(20):
        if desk.answer("/v1/sources/inbox")["state"]["dead_letters"]:
            break
        page.wait_for_timeout(500)
    page = desk.open("/sources")
    expect(letters.get_by_role("row")).to_have_count(2)
    broken: list[str] = []
    for theme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        desk.show_as(theme, width)
        desk.picture(f"sources-{theme}-{width}")
        if width == 390:
            desk.check_widths()
        page.evaluate(axe)
        broken += serious(page)
    assert broken == []
    desk.show_as("light", 1280)
    page.get_by_role("button", name="inbox").click()
    drawer = page.get_by_role("dialog", name="inbox")
    expect(drawer.get_by_role("button", name="Pause")).to_be_visible()
    desk.check_figures()
    drawer.get_by_role("button", name="Pause").click()
    expect(drawer.get_by_role("button", name="Resume")).to_be_visible()
    assert desk.answer("/v1/sources/inbox")["paused"] is True
    desk.picture("source")
    page.keyboard.press("Escape")
    letters.get_by_role("button").first.click()
    drawer = page.get_by_role("dialog", name="Dead letter")
    text = drawer.get_by_role("textbox")
    event = json.loads(text.input_value())
    text.fill(json.dumps(event | {"subject": "acme"}))
    drawer.get_by_role("button", name="Save and retry").click()
    expect(drawer.get_by_text("row-8", exact=True)).to_be_visible()
    desk.picture("dead-letter")
    assert desk.answer("/v1/dead_letters")["items"] == []
    with desk.office.client(KEY) as client:
        client.post("/v1/events?wait=recorded", json={"id": "last", "type": "other", "subject": "acme"})
    rows = desk.answer("/v1/meters/tokens/usage")["rows"]
    assert [row["value"] for row in rows] == ["36"]
