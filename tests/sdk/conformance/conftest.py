"""One server for all scenarios, and for each language a proxy of its own before it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.faults.server import KEY, Server
from tests.sdk.conformance.driver import Driver
from tests.sdk.conformance.languages import LANGUAGES, Language
from tests.sdk.conformance.proxy import Proxy

TYPE = "conformance"
METER = "conformance_n"


@dataclass
class Party:
    """A language, its way to the server, and one scenario's directory."""

    language: Language
    server: Server
    proxy: Proxy
    driver: Driver
    spool: Path
    subject: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])

    def configure(self, **changed: Any) -> None:
        """A client whose delays suit a test."""
        self.driver.ask(
            "configure",
            **{
                "url": self.proxy.url,
                "key": KEY,
                "spool": str(self.spool),
                "spool_bytes": 64 * 1024 * 1024,
                "segment_bytes": 1024 * 1024,
                "batch_events": 100,
                "batch_bytes": 256 * 1024,
                "flush_ms": 20,
                "timeout_ms": 1000,
                "retry_ms_min": 20,
                "retry_ms_max": 150,
                "on_full": "wait",
                **changed,
            },
        )

    def track_many(self, count: int, workers: int = 1) -> list[str]:
        found = self.driver.ask("track_many", type=TYPE, subject=self.subject, count=count, workers=workers)
        assert found["refused"] == 0
        return found["ids"]

    def flush(self, timeout_ms: int = 90_000) -> None:
        complete = self.driver.ask("flush", timeout_ms=timeout_ms)["complete"]
        assert complete, f"{self.driver.ask('stats')}\n{self.driver.log()}"

    def close(self) -> None:
        self.driver.ask("close", timeout_ms=5000)

    def recorded(self, *subjects: str) -> list[dict[str, Any]]:
        """Every event of the scenario, as the server has recorded it. None may be in conflict with another."""
        settle(self.server)
        customers = list(subjects or [self.subject])  # a subject of nobody is a customer by that key
        assert self._events(customers, status="conflict") == []
        return self._events(customers)

    def _events(self, customers: list[str], **more: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        parameters: dict[str, Any] = {"customer": customers, "limit": 1000, **more}
        while True:
            page = self.server.get("/v1/events", params=parameters)
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            parameters["cursor"] = page["next_cursor"]

    def assert_recorded(self, ids: list[str]) -> list[dict[str, Any]]:
        """The server has these events, each once, and no other."""
        assert len(set(ids)) == len(ids)
        events = self.recorded()
        found = [event["id"] for event in events]
        assert len(found) == len(set(found))
        missing, strange = set(ids) - set(found), set(found) - set(ids)
        wrong = f"{len(missing)} missing, {len(strange)} that nobody tracked.\n{self.driver.log()}"
        assert not missing | strange, wrong
        changed = [forms for forms in self.proxy.lines.values() if len(forms) > 1]
        assert not changed, f"An event was sent in several forms: {changed[0]}"
        return events


def settle(server: Server) -> None:
    """Until all that was acknowledged is recorded."""
    answer = server.request(
        "POST", "/v1/events?wait=recorded", json=[{"id": "end", "type": "end", "subject": "end"}]
    )
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("conformance") / "data")
    made.start()
    made.meter(METER, event_type=TYPE, aggregation="sum", value="$.n")
    yield made
    made.end()


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | AssertionError]:
    """How each driver is run. One that cannot be built fails the scenarios of its language alone."""

    def build(language: Language) -> list[str] | AssertionError:
        try:
            return language.build(tmp_path_factory.mktemp(language.name))
        except AssertionError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((each.name for each in LANGUAGES), pool.map(build, LANGUAGES), strict=True))


def party_of(
    language: Language,
    commands: dict[str, list[str] | AssertionError],
    server: Server,
    directory: Path,
    scenario: str,
) -> Party:
    command = commands[language.name]
    if isinstance(command, AssertionError):
        raise command
    directory.mkdir(exist_ok=True)
    driver = Driver(language, command, directory)
    driver.start()
    subject = f"{language.name}/{scenario}"
    return Party(language, server, Proxy(server.port), driver, directory / "spool", subject)


@pytest.fixture(params=LANGUAGES, ids=lambda language: language.name)
def party(
    request: pytest.FixtureRequest,
    commands: dict[str, list[str] | AssertionError],
    server: Server,
    tmp_path: Path,
) -> Iterator[Party]:
    made = party_of(request.param, commands, server, tmp_path, request.node.originalname)
    yield made
    made.driver.end()
    made.proxy.close()


@pytest.fixture
def parties(
    request: pytest.FixtureRequest,
    commands: dict[str, list[str] | AssertionError],
    server: Server,
    tmp_path: Path,
) -> Iterator[list[Party]]:
    """All languages at once, where the scenario is the server's."""
    made = [party_of(each, commands, server, tmp_path / each.name, request.node.name) for each in LANGUAGES]
    yield made
    for each in made:
        each.driver.end()
        each.proxy.close()
