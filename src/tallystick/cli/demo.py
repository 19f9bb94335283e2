"""`tallystick demo`: a server with the usage of a small AI company, past and live, to look at and to ask."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import httpx
import typer

from tallystick.cli import traffic
from tallystick.cli.serve import run_server
from tallystick.cli.show import out, say
from tallystick.config import load
from tallystick.errors import Invalid, TallystickError

if TYPE_CHECKING:
    from tallystick.wiring import Running

_BATCH_EVENTS = 2000
_TICK_S = 0.25
_CAUGHT_UP_S_MAX = 60.0
_RETRY_RATE = 0.01
_RETRY_PAUSE_S = 1.0
_RETRIES_MAX = 5


def demo(
    rate: Annotated[
        float, typer.Option(min=0.1, max=5000, help="Requests a second, of all customers.")
    ] = 40.0,
    days: Annotated[int, typer.Option(min=0, max=366, help="Days of history.")] = 14,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8080,
    data_dir: Annotated[Path, typer.Option(help="Its data; kept, and gone on with the next time.")] = Path(
        ".demo"
    ),
) -> None:
    """Start Tallystick with believable traffic of an AI API company: history first, then live, until Ctrl-C."""
    import uvloop

    key = _key(data_dir)
    settings = dataclasses.replace(
        load(flags={}, environment={}),
        data_dir=str(data_dir),
        listen=f"127.0.0.1:{port}",
        admin_key=key,
        log_level="warning",
    )

    async def beside(running: "Running", url: str) -> None:
        await _Demo(url, key, rate, days, data_dir).run()

    try:
        uvloop.run(run_server(settings, when_ready=beside))
    except KeyboardInterrupt:
        return
    except Invalid as error:
        raise Invalid(error.detail.replace("--listen", "--port"), code=error.code) from error


def _key(data_dir: Path) -> str:
    """The key of this demo: made once, and kept beside its data."""
    path = data_dir / "demo-key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text("tally_demo_" + secrets.token_hex(12))
        return path.read_text().strip()
    except OSError as error:
        raise Invalid(f"--data-dir: {data_dir} cannot be used: {error.strerror}.") from error


class _Demo:
    """Traffic for one running server."""

    def __init__(self, url: str, key: str, rate: float, days: int, data_dir: Path) -> None:
        self._url = url
        self._key = key
        self._rate = rate
        self._days = days
        self._filled = data_dir / "demo-history.json"
        self._client = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        )

    async def run(self) -> None:
        """History, questions, then live traffic, until cancelled."""
        async with self._client:
            try:
                await self._prepare()
                await self._back_fill()
                await self._tell()
                await self._live()
            except (httpx.ConnectError, httpx.RemoteProtocolError):
                return  # the server, in this same process, is shutting down
            except httpx.HTTPError as error:
                say(f"The demo's traffic has stopped: {error!r}. The server goes on; Ctrl-C ends it.")

    async def _prepare(self) -> None:
        for customer in traffic.CUSTOMERS:
            await self._create(
                "/v1/customers", {"key": customer.key, "name": customer.name, "currency": "USD"}
            )
        for meter in traffic.METERS:
            await self._create("/v1/meters", meter)

    async def _create(self, path: str, document: dict[str, Any]) -> None:
        answer = await self._client.post(path, json=document)
        if answer.status_code not in (201, 409):  # 409: it is there from the last time
            raise TallystickError(f"The demo could not make {document['key']!r}: {answer.text}")

    async def _back_fill(self) -> None:
        step = traffic.HISTORY_STEP_S
        now_s = int(time.time()) // step * step
        from_s = max(now_s - self._days * 86_400, self._filled_until())
        if from_s >= now_s:
            return
        started = time.monotonic()
        events = traffic.history(from_s, now_s, rate=self._rate)
        sent = 0
        while True:
            batch = await asyncio.to_thread(_body, events)
            if batch is None:
                break
            count, body = batch
            await self._send(body)
            sent += count
        self._filled.write_text(json.dumps({"until_s": now_s}))
        await self._caught_up()
        say(f"{sent:,} events of history in {time.monotonic() - started:.1f} s.")

    async def _caught_up(self) -> None:
        """Wait until what was sent is countable, so that the first answers are whole."""
        give_up = time.monotonic() + _CAUGHT_UP_S_MAX
        while time.monotonic() < give_up:
            ready = (await self._client.get("/health/ready")).json()
            if ready["recorder_lag"]["events"] == 0:
                return
            await asyncio.sleep(_TICK_S)

    def _filled_until(self) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self._filled.read_text())["until_s"])
        return 0

    async def _send(self, body: bytes) -> None:
        for attempt in range(_RETRIES_MAX):
            answer = await self._client.post(
                "/v1/events", content=body, headers={"content-type": "application/x-ndjson"}
            )
            if answer.status_code == 202:
                return
            if answer.status_code not in (429, 503):
                raise TallystickError(f"The demo's events were refused: {answer.text[:500]}")
            await asyncio.sleep(_RETRY_PAUSE_S * 2**attempt)
        raise TallystickError("The demo's events were refused too often; the server is too busy.")

    async def _live(self) -> None:
        chance = random.Random()  # noqa: S311 -- a demo's dice
        due = time.monotonic()
        owed = 0.0
        while True:
            due += _TICK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            owed += self._rate * _TICK_S * chance.uniform(0.7, 1.3)
            now = datetime.now(UTC)
            events = [traffic.live(now, chance) for _ in range(int(owed))]
            owed -= len(events)
            if not events:
                continue
            await self._send(_lines(events))
            # A gateway whose answer got lost sends again: these are counted once all the same.
            again = [event for event in events if chance.random() < _RETRY_RATE]
            if again:
                await self._send(_lines(again))

    async def _tell(self) -> None:
        out.print()
        out.print(
            f"Live traffic, {self._rate:g} requests a second. Ctrl-C ends it; the data stays.", markup=False
        )
        for name, path in (
            ("web", "/"),
            ("health", "/health/ready"),
            ("metrics", "/metrics"),
            ("API", "/openapi.json"),
        ):
            out.print(f"  {name:8} {self._url}{path}", markup=False)
        out.print(f"  key      {self._key}", markup=False)
        out.print("\nQuestions to ask, and what they answer now:\n", markup=False)
        for told, path in _QUESTIONS:
            answer = await self._client.get(path)
            out.print(f"# {told}", style="dim", markup=False)
            out.print(f"curl -s -H 'Authorization: Bearer {self._key}' '{self._url}{path}'", markup=False)
            out.print(_shortened(answer.text), style="green", markup=False)
            out.print()
        out.print("The same from the command line:", markup=False)
        out.print(f"  export TALLYSTICK_URL={self._url} TALLYSTICK_KEY={self._key}", markup=False)
        out.print("  tallystick usage tokens --window day --group-by model", markup=False)
        out.print("  tallystick events --limit 5", markup=False)


_QUESTIONS = (
    ("How many tokens have been used in the last 30 days?", "/v1/meters/tokens/usage"),
    (
        "Who are the three largest customers?",
        "/v1/meters/tokens/usage?group_by=customer&order_by=-value&limit=3",
    ),
    (
        "Requests by status, of one customer?",
        f"/v1/meters/requests/usage?customer={quote(traffic.CUSTOMERS[0].key)}&group_by=status",
    ),
    ("Why does the meter leave some events out?", "/v1/meters/tokens/explain"),
)
_ANSWER_CHARACTERS_MAX = 600


def _shortened(text: str) -> str:
    return text if len(text) <= _ANSWER_CHARACTERS_MAX else text[:_ANSWER_CHARACTERS_MAX] + "…"


def _body(events: Iterable[dict[str, Any]]) -> tuple[int, bytes] | None:
    batch = list(itertools.islice(events, _BATCH_EVENTS))
    return (len(batch), _lines(batch)) if batch else None


def _lines(events: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, events)).encode()


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)
