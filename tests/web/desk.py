"""A person at the pages: a browser with a key, whose requests, complaints and answers are all noted."""

import itertools
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, ConsoleMessage, Page, Response
from tests.loopback import PLAIN

_numbers = itertools.count(1)
_EXPECTED = ("status of 404", "status of 403", "status of 409", "status of 422")
"""A browser prints every refusal; the pages know what to do with these."""


class Office:
    """All desks of one server."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.asked: set[tuple[str, str]] = set()
        self._root = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key}"}, verify=PLAIN, timeout=60
        )

    def tenant(self) -> str:
        """The admin key of a new tenant."""
        answer = self._root.post("/v1/tenants", json={"key": f"web-{next(_numbers)}"})
        assert answer.status_code == 201, answer.text
        return answer.json()["admin_key"]

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {key}"}, verify=PLAIN, timeout=60
        )


class Desk:
    """One browser context, signed in with `key`, and the same key's own client to compare with."""

    def __init__(
        self,
        office: Office,
        browser: Browser,
        key: str,
        pictures: Path,
        *,
        theme: Any = "light",
        width: int = 1280,
        kept_as: str = "tallystick-key",
    ) -> None:
        self.office = office
        self.key = key
        self.api = office.client(key)
        self.complaints: list[str] = []
        self.scalars: set[str] = set()
        self._pictures = pictures
        self._context = browser.new_context(
            reduced_motion="reduce",  # colours must not be judged on their way
            viewport={"width": 1280, "height": 860},
            accept_downloads=True,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self._context.set_default_timeout(20_000)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("response", self._answered)
        self.page.add_init_script(f"sessionStorage.setItem('{kept_as}', {json.dumps(key)})")

    def close(self) -> None:
        self._context.close()
        self.api.close()
        assert self.complaints == [], self.complaints

    def show_as(self, theme: Any, width: int) -> None:
        """What the person's system prefers, and how wide the screen is."""
        self.page.emulate_media(color_scheme=theme)
        self.page.set_viewport_size({"width": width, "height": 860})

    def open(self, path: str) -> Page:
        self.page.goto(self.office.url + path)
        self.settled()
        return self.page

    def settled(self) -> None:
        """Wait until the page has its answers."""
        self.page.wait_for_selector("main h1, main form")
        self.page.wait_for_function(
            "() => !document.querySelector('.loading, [aria-busy=true]')", timeout=20_000
        )

    def picture(self, name: str) -> None:
        self.page.screenshot(path=self._pictures / f"{name}.png", full_page=True)

    def send(self, *events: dict[str, Any]) -> None:
        answer = self.api.post("/v1/events?wait=recorded", json=list(events))
        assert answer.status_code == 200, answer.text

    def make(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        answer = self.api.post(path, json=document)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def answer(self, path: str, **parameters: Any) -> Any:
        answer = self.api.get(httpx.URL(path).copy_merge_params(parameters))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def figures(self, selector: str = "main") -> list[str]:
        """The text of every figure of the server's that is shown, as a reader would copy it."""
        found: list[list[str]] = self.page.eval_on_selector_all(
            f"{selector} [data-figure]", "all => all.map(one => [one.textContent, one.dataset.figure])"
        )
        assert all(text == figure for text, figure in found), found
        return [text for text, _ in found]

    def check_figures(self) -> int:
        """Every figure shown stands in an answer of the API, digit for digit. How many there are."""
        shown = self.figures()
        unknown = [figure for figure in shown if figure not in self.scalars]
        assert unknown == [], unknown
        return len(shown)

    def check_widths(self) -> None:
        """Nothing makes the page itself wider than the screen."""
        wide, has = self.page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= has

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(one in message.text for one in _EXPECTED):
            self.complaints.append(message.text)

    def _answered(self, response: Response) -> None:
        parts = urlsplit(response.url)
        if parts.scheme != "blob":
            assert f"{parts.scheme}://{parts.netloc}" == self.office.url, response.url
            self.office.asked.add((response.request.method, parts.path))
        if response.headers.get("content-type", "").startswith("application/json"):
            try:
                self._note(json.loads(response.text(), parse_float=Decimal))
            except Exception:
                return

    def _note(self, value: Any) -> None:
        if isinstance(value, dict):
            for one in value.values():
                self._note(one)
        elif isinstance(value, list):
            for one in value:
                self._note(one)
        elif not isinstance(value, bool):
            self.scalars.add(str(value))


def matches(template: str, path: str) -> bool:
    """Whether a path is one of a route such as /v1/meters/{key}."""
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path) is not None
