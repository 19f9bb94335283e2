"""The pages in a real browser, over a real server: every flow, every figure, and what was asked for on the way."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.traces.trace import METERS, azure, data_directory
from tests.web.desk import Desk, Office, matches

from tallystick.api.web import PAGES

pytestmark = [pytest.mark.slow, pytest.mark.engine]

RANGE = "from=2023-11-16T18:00:00.000Z&to=2023-11-16T19:30:00.000Z"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def call(number: int, **data: Any) -> dict[str, Any]:
    return {
        "id": f"call-{number}",
        "source": "gateway",
        "type": "llm.completion",
        "subject": ("acme", "beta", "gamma")[number % 3],
        "time": f"2026-07-{1 + number % 20:02d}T12:00:00Z",
        "data": {
            "model": ("large", "small")[number % 2],
            "tokens": f"{number}.000000000000000001",
            "status": "ok",
        }
        | data,
    }


TOKENS = {
    "key": "tokens",
    "name": "Tokens",
    "event_type": "llm.completion",
    "aggregation": "sum",
    "value": "$.tokens",
    "dimensions": {"model": "$.model"},
    "unit": "token",
}
JULY = "from=2026-07-01T00:00:00.000Z&to=2026-08-01T00:00:00.000Z"


@pytest.fixture(scope="module")
def traced(office: Office) -> str:
    """A key of a tenant with a real trace: requests of an LLM service (Azure, 2023), where the data is there; else some
    of our own."""
    key = office.tenant()
    directory = data_directory()
    with office.client(key) as client:
        for meter in METERS if directory else ():
            if meter["event_type"] == "llm.request":
                assert client.post("/v1/meters", json=meter).status_code == 201
        assert client.post("/v1/meters", json=TOKENS).status_code == 201
        events = azure(directory) if directory else []
        events += [call(number) for number in range(200)]
        for begin in range(0, len(events), 5000):
            answer = client.post("/v1/events?wait=recorded", json=events[begin : begin + 5000])
            assert answer.status_code == 200, answer.text
    return key


@pytest.fixture
def at_trace(office: Office, browser: Browser, traced: str, pictures: Path) -> Iterator[Desk]:
    desk = Desk(office, browser, traced, pictures)
    yield desk
    desk.close()


def test_signing_in_and_out(desk: Desk, axe: str) -> None:
    page = desk.open("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.evaluate(axe)
    assert _serious(page) == []
    desk.picture("sign-in")
    page.get_by_label("API key").fill("nobody knows it")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("The server does not know this key.")
    page.get_by_label("API key").fill(desk.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    assert desk.key not in page.content()
    desk.complaints = [one for one in desk.complaints if "status of 401" not in one]


def test_from_nothing_to_a_first_counted_event(desk: Desk) -> None:
    page = desk.open("/")
    page.get_by_role("link", name="First steps").click()
    page.get_by_role("button", name="Make the meter “tokens”").click()
    expect(page.locator(".done")).to_contain_text("tokens")
    expect(page.get_by_text("Waiting for an event…")).to_be_visible()
    page.get_by_role("tab", name="Python").click()
    shown = page.locator(".code code").inner_text()
    run = subprocess.run(
        [sys.executable, "-c", shown],
        env={"TALLYSTICK_KEY": desk.key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(run.stdout)["recorded"] == 1, run.stderr
    expect(page.get_by_text("It is here, and it counts.")).to_be_visible()
    page.get_by_role("link", name="Everything known of it").click()
    expect(page.get_by_role("dialog")).to_contain_text("1234")


def test_the_explorers_figures_are_the_apis(at_trace: Desk) -> None:
    page = at_trace.open(f"/explore?meter=tokens&{JULY}&window=day&group=model&zone=Europe%2FBerlin")
    usage = at_trace.answer(
        f"/v1/meters/tokens/usage?{JULY}", window="day", timezone="Europe/Berlin", group_by="model"
    )
    rows = {(row["group"]["model"], row["value"]) for row in usage["rows"]}
    table = page.get_by_role("table", name="Usage by day")
    shown = set(table.locator("[data-figure]").all_text_contents())
    assert {value for _, value in rows} <= shown
    totals = at_trace.answer(f"/v1/meters/tokens/usage?{JULY}", group_by="model", order_by="-value")["rows"]
    lines = page.get_by_role("table", name="Usage by model").locator("tbody tr")
    assert [line.locator("td").nth(1).locator("[data-figure]").inner_text() for line in lines.all()] == [
        row["value"] for row in totals
    ]
    whole = at_trace.answer(f"/v1/meters/tokens/usage?{JULY}")["rows"][0]["value"]
    assert page.locator(".big [data-figure]").inner_text() == whole
    assert "." in whole  # more digits than a double has
    assert at_trace.check_figures() > 50
    at_trace.picture("explore-grouped")


def test_values_to_filter_by_are_offered_before_anything_is_typed(at_trace: Desk) -> None:
    page = at_trace.open(f"/explore?meter=tokens&{JULY}&window=day")
    whole = page.locator(".big [data-figure]").inner_text()
    page.get_by_label("Add a filter").select_option("model")
    page.locator(".values").get_by_role("button", name="small").click()
    expect(page.get_by_text("model is small")).to_be_visible()
    expect(page.locator(".big [data-figure]")).not_to_have_text(whole)
    at_trace.settled()
    at_trace.check_figures()


def test_from_a_bar_to_its_events_to_one_event(at_trace: Desk) -> None:
    page = at_trace.open(f"/explore?meter=tokens&{JULY}&window=day&group=model")
    chart = page.get_by_role("application")
    chart.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tip")).to_contain_text("2 Jul")
    page.keyboard.press("Enter")
    at_trace.settled()
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["from"] == ["2026-07-02T00:00:00Z"]
    assert asked["type"] == ["llm.completion"]
    found = at_trace.answer(
        "/v1/events", type="llm.completion", **{"from": asked["from"][0], "to": asked["to"][0]}
    )
    names = page.get_by_role("table").locator(".link.id").all_text_contents()
    assert names == [event["id"] for event in found["items"]]
    page.get_by_role("button", name=names[0]).click()
    dialog = page.get_by_role("dialog")
    known = at_trace.answer("/v1/events/lookup", source="gateway", id=names[0])
    expect(dialog).to_contain_text(known["readings"][0]["value"])
    expect(dialog).to_contain_text(known["position"])
    at_trace.picture("event")
    # All of it stands in the address.
    page.reload()
    expect(page.get_by_role("dialog")).to_contain_text(known["readings"][0]["value"])
    page.keyboard.press("Escape")
    page.go_back()


def test_top_and_the_rest_add_up(at_trace: Desk) -> None:
    page = at_trace.open(f"/explore?meter=tokens&{JULY}&window=week&group=customer&top=3&and=")
    page.goto(page.url.replace("group=customer", "group=customer%2Cmodel"))
    at_trace.settled()
    lines = page.get_by_role("table", name="Usage by customer and model").locator("tbody tr")
    values = [line.locator("td").nth(1).locator(".figure > span").first.inner_text() for line in lines.all()]
    assert len(values) == 4
    assert lines.last.locator("td").first.inner_text() == "other"
    assert sum(map(Decimal, values)) == Decimal(page.locator(".big [data-figure]").inner_text())


def test_exports_and_the_command_say_what_the_page_shows(at_trace: Desk) -> None:
    page = at_trace.open(f"/explore?meter=tokens&{JULY}&window=day&filter[model]=large")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    text = Path(download.value.path()).read_bytes().decode()
    query = f"/v1/meters/tokens/usage?{JULY}&window=day&timezone=UTC&filter[model]=large"
    assert text == at_trace.api.get(query, headers={"accept": "text/csv"}).text
    with page.expect_download() as download:
        page.get_by_role("button", name="Parquet").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"PAR1"
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    assert at_trace.key not in command
    target = command.split("'")[1]
    rows = at_trace.api.get(target).json()["rows"]
    assert rows == at_trace.api.get(query).json()["rows"]


def test_a_formula_over_two_meters(desk: Desk) -> None:
    desk.make("/v1/meters", TOKENS)
    desk.make("/v1/meters", {"key": "calls", "event_type": "llm.completion", "aggregation": "count"})
    desk.send(*(call(number) for number in range(10)))
    page = desk.open(f"/explore?meter=tokens&b=calls&formula=a+%2F+b&{JULY}&window=day")
    expect(page.get_by_role("table", name="The formula by window")).to_be_visible()
    assert desk.check_figures() > 10


def test_a_correction_is_shown_before_it_is_made(desk: Desk) -> None:
    desk.make("/v1/meters", TOKENS)
    desk.send(call(1), call(2))
    page = desk.open("/events?event=call-1&event_source=gateway")
    page.get_by_role("button", name="Replace…").click()
    box = page.get_by_label("Data", exact=True).locator("visible=true").last
    box.fill('{"model": "large", "tokens": 41.5}')
    effect = page.get_by_role("table", name="What the correction changes")
    expect(effect).to_contain_text("41.5")
    assert effect.locator("[data-figure]").all_text_contents() == ["1.000000000000000001", "41.5"]
    assert effect.locator("[data-own]").all_text_contents() == ["40.499999999999999999"]
    page.get_by_label("Reason").fill("measured anew")
    page.get_by_role("button", name="Replace", exact=True).click()
    expect(page.get_by_text("measured anew")).to_be_visible()
    assert desk.answer("/v1/events/lookup", source="gateway", id="call-1")["readings"][0]["value"] == "41.5"
    page.get_by_role("button", name="Retract…").click()
    page.get_by_label("Reason").fill("never happened")
    page.get_by_role("button", name="Retract", exact=True).click()
    expect(page.get_by_text("This event was retracted")).to_be_visible()


def test_why_an_event_was_not_counted(desk: Desk) -> None:
    desk.make("/v1/meters", TOKENS | {"filter": 'data.status == "ok"'})
    desk.send(call(1, status="failed"), call(2, tokens="many"))
    page = desk.open("/events")
    page.get_by_label("Source of the event").fill("gateway")
    page.get_by_label("Id of the event").fill("call-1")
    page.get_by_role("button", name="Why was it counted, or not?").click()
    expect(page.get_by_role("dialog")).to_contain_text("the meter's filter does not match it")
    desk.open("/events?status=invalid")
    expect(page.get_by_role("table")).to_contain_text("value_not_numeric (tokens)")
    desk.open("/meters/tokens?range=12mo")
    expect(page.get_by_role("table", name="Why events do not count")).to_contain_text("filter_false")


def test_events_arrive_live(desk: Desk) -> None:
    page = desk.open("/events?live=1")
    expect(page.get_by_role("heading", name="Live", exact=True)).to_be_visible()
    desk.send(*(call(number) for number in range(30)))
    expect(page.get_by_role("table").locator("tbody tr")).to_have_count(30)
    expect(page.get_by_role("table")).to_contain_text("call-29")


def test_a_thousand_events_a_second_are_kept_up_with(desk: Desk) -> None:
    page = desk.open("/events?live=1")
    expect(page.get_by_role("heading", name="Live", exact=True)).to_be_visible()
    began = time.monotonic()
    for second in range(3):
        desk.send(*(call(number) | {"id": f"{second}-{number}"} for number in range(1000)))
        time.sleep(max(0.0, began + second + 1 - time.monotonic()))
    expect(page.locator("main [data-own='3000']")).to_be_visible(timeout=5000)
    # Not behind, and not full: the latest are on top, and no more than are kept.
    expect(page.get_by_role("table")).to_contain_text("2-999")
    assert page.get_by_role("table").locator("tbody tr").count() <= 200
    answered_ms = page.evaluate(
        "() => new Promise(done => { const at = performance.now(); setTimeout(() => done(performance.now() - at)) })"
    )
    assert answered_ms < 300


def test_a_meter_is_tried_before_it_is_saved(desk: Desk) -> None:
    desk.send(*(call(number) for number in range(5)))
    page = desk.open("/meters/new")
    page.get_by_label("Events of the type").fill("llm.completion")
    page.get_by_label("Value").fill("$.tokens")
    table = page.get_by_role("table", name="The latest events, and what the meter reads from each")
    expect(table.locator("tbody tr")).to_have_count(5)
    page.get_by_label("Only where").fill('data.model == "large"')
    expect(page.locator(".counts")).to_contain_text("filter_false")
    page.get_by_label("Only where").fill("data.model ==")
    expect(page.get_by_role("alert").first).to_be_visible()
    page.get_by_label("Only where").fill("")
    page.get_by_label("Key").fill("mine")
    expect(table).to_be_visible()
    page.get_by_role("button", name="Save the meter").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("mine")
    assert desk.answer("/v1/meters/mine")["value"] == "$.tokens"


def test_a_backfill_counts_when_it_is_closed_and_can_be_taken_back(desk: Desk) -> None:
    desk.make("/v1/meters", TOKENS)
    desk.send(call(1), call(2))
    page = desk.open("/backfills")
    page.get_by_role("button", name="Open a backfill").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key").fill("july")
    dialog.get_by_label("Reason").fill("lost by the gateway")
    dialog.get_by_label("Take away what counts in a range").check()
    dialog.get_by_label("From (UTC)").fill("2026-07-02T00:00")
    dialog.get_by_label("To (exclusive)").fill("2026-07-03T00:00")
    dialog.get_by_role("button", name="Open").click()
    effect = page.get_by_role("table", name="Usage before and now")
    expect(effect.locator("[data-own]")).to_have_text("0")
    lines = [json.dumps(call(1, tokens=5) | {"id": "new"}), json.dumps({"id": "bad", "type": "t"})]
    page.get_by_label("Events", exact=True).fill("\n".join(lines))
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("1 laid aside, 1 rejected")
    page.get_by_role("button", name="Close…").click()
    page.get_by_role("dialog").get_by_role("button", name="Close", exact=True).last.click()
    expect(effect.locator("[data-figure]")).to_have_text(["1.000000000000000001", "5"])
    page.get_by_role("button", name="Revert…").click()
    page.get_by_role("dialog").get_by_role("button", name="Revert").click()
    expect(effect.locator("[data-figure]")).to_have_text(["1.000000000000000001"] * 2)


def test_a_meter_is_changed_into_a_new_version(desk: Desk) -> None:
    desk.make("/v1/meters", TOKENS | {"filter": 'data.status == "ok"'})
    desk.send(call(1), call(2, status="failed"))
    page = desk.open("/meters/tokens")
    page.get_by_role("link", name="Change").click()
    expect(page.get_by_label("Only where")).to_have_value('data.status == "ok"')
    page.get_by_label("Only where").fill("")
    expect(page.locator(".counts")).to_contain_text("2 of 2 count")
    page.get_by_role("button", name="Save the meter").click()
    expect(page.get_by_role("table", name="Versions").locator("tbody tr")).to_have_count(2)
    now = desk.answer("/v1/meters/tokens")
    assert (now["version"], now["filter"], now["dimensions"]) == (2, None, {"model": "$.model"})


def test_a_customer_is_made_and_takes_a_subject_over(desk: Desk) -> None:
    desk.make("/v1/customers", {"key": "old", "subjects": ["key-1"]})
    page = desk.open("/customers")
    page.get_by_role("button", name="New customer").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key").fill("a/b")
    dialog.get_by_label("Subjects").fill("key-1\nkey-2")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert").first).to_be_visible()
    dialog.get_by_role("button", name="Take the subject over, from now on").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("a/b")
    assert desk.answer("/v1/customers/a%2Fb")["subjects"] == ["key-1", "key-2"]
    page.get_by_role("button", name="Change").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Acme")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Acme")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Acme")


def test_customers_and_changes_are_found_by_text(desk: Desk) -> None:
    for key, name in (("c-1", "Brightwater Insurance"), ("c-2", "Harbor Health")):
        desk.make("/v1/customers", {"key": key, "name": name})
    page = desk.open("/customers")
    page.get_by_role("searchbox", name="Find customers").fill("bright")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Harbor Health")).to_have_count(0)
    expect(page.get_by_role("link", name="Brightwater Insurance")).to_be_visible()
    assert urlsplit(page.url).query == "q=bright"
    page.go_back()
    expect(page.get_by_role("link", name="Harbor Health")).to_be_visible()
    page = desk.open("/customers?q=nobody")
    expect(page.get_by_text("No customer has “nobody” in its key, name or email.")).to_be_visible()
    page = desk.open("/audit?q=c-2")
    expect(page.get_by_role("cell", name="customer/c-2")).to_be_visible()
    expect(page.get_by_role("cell", name="customer/c-1")).to_have_count(0)
    # What is not there will not be there when it is asked for again.
    page.goto(f"{desk.office.url}/customers/nobody")
    expect(page.get_by_role("alert")).to_contain_text("There is no customer 'nobody'.")
    expect(page.get_by_role("alert")).not_to_contain_text("/v1/")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_a_key_is_made_and_revoked(desk: Desk) -> None:
    page = desk.open("/access")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("gateway")
    page.get_by_role("button", name="Create").click()
    secret = page.get_by_role("dialog", name="The secret").locator("code").inner_text()
    event = {"id": "k", "type": "t", "subject": "s"}
    with desk.office.client(secret) as client:
        assert client.post("/v1/events", json=event).status_code == 202
    page.keyboard.press("Escape")
    page.get_by_role("row", name="gateway").get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("revoked")).to_be_visible()
    with desk.office.client(secret) as client:
        assert client.post("/v1/events", json=event).status_code == 401


def test_markup_in_what_was_sent_is_text_everywhere(desk: Desk) -> None:
    desk.make("/v1/customers", {"key": MARKUP, "name": MARKUP})
    desk.make("/v1/meters", TOKENS | {"name": MARKUP, "unit": "<b>", "dimensions": {"model": "$.model"}})
    event = call(1, model=MARKUP, note=MARKUP) | {"id": MARKUP, "source": MARKUP, "subject": MARKUP}
    desk.send(event)
    for path in (
        "/?range=30d",
        f"/explore?meter=tokens&group=model&{JULY}",
        "/events",
        "/meters",
        "/meters/tokens",
        "/customers",
        "/audit",
        "/meters/new?event_type=llm.completion&value=%24.tokens&dimensions=m%20%3D%20%24.model",
    ):
        page = desk.open(path)
        assert "<img src=x" in page.locator("body").inner_text() or path == "/audit", path
        assert page.locator("img, main script").count() == 0, path
    page = desk.open("/events")
    page.locator(".link.id").first.click()
    expect(page.get_by_role("dialog")).to_contain_text("<script>alert(2)</script>")


def test_every_figure_is_one_of_the_apis(at_trace: Desk) -> None:
    whole = 0
    meter = "generated_tokens_sum" if data_directory() else "tokens"
    for path in (
        "/?range=30d",
        f"/explore?meter={meter}&{RANGE}&window=minute",
        f"/explore?meter={meter}&{RANGE}&window=15m&compare=previous",
        "/customers/acme?range=12mo&meter=tokens",
        "/customers",
        "/meters/tokens",
        "/access",
        "/status",
    ):
        page = at_trace.open(path)
        # Long tables are drawn only when they are opened, and then not at once.
        page.evaluate(
            "() => document.querySelectorAll('details.panel:not([open]) > summary').forEach(one => one.click())"
        )
        page.wait_for_function(
            "() => [...document.querySelectorAll('details.panel')].every(one => one.open && one.querySelector('td'))"
        )
        whole += at_trace.check_figures()
    assert whole > 100


OVERVIEW = {
    "overview": "/?range=30d",
    "explore": f"/explore?meter=tokens&group=model&{JULY}&window=day",
    "events": "/events",
    "event": "/events?event=call-1&event_source=gateway",
    "meters": "/meters",
    "meter": "/meters/tokens",
    "new-meter": "/meters/new?event_type=llm.completion&value=%24.tokens",
    "customers": "/customers",
    "customer": "/customers/acme?range=12mo",
    "access": "/access",
    "audit": "/audit",
    "backfills": "/backfills",
    "status": "/status",
    "start": "/start",
}


def test_pages_can_be_used_by_everybody(at_trace: Desk, axe: str) -> None:
    found: dict[str, list[str]] = {}
    for name, path in OVERVIEW.items():
        at_trace.show_as("light", 1280)
        page = at_trace.open(path)
        at_trace.picture(f"{name}-light")
        page.evaluate(axe)
        serious = _serious(page)
        at_trace.show_as("dark", 1280)
        at_trace.picture(f"{name}-dark")
        serious += _serious(page, "color-contrast")
        at_trace.show_as("light", 390)
        at_trace.picture(f"{name}-phone")
        at_trace.check_widths()
        if serious:
            found[name] = serious
    assert found == {}


def _serious(page: Page, *rules: str) -> list[str]:
    """What axe finds serious: each rule with an element that breaks it."""
    only = {"runOnly": {"type": "rule", "values": rules}} if rules else {}
    result = page.evaluate("options => axe.run(document, options)", {"resultTypes": ["violations"], **only})
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_pages_ask_public_routes_and_nothing_else(office: Office, contract: dict[str, Any]) -> None:
    routes = [(method.upper(), path) for path, item in contract["paths"].items() for method in item]
    own = {f"/{name}" for name in PAGES}
    for method, path in office.asked:
        if path == "/" or path.startswith("/assets/") or path == "/favicon.svg":
            continue
        if method == "GET" and "/" + path.split("/")[1] in own:
            continue
        assert any(method == one and matches(template, path) for one, template in routes), (method, path)
    assert len(office.asked) > 20
