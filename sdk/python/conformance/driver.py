"""The driver of the conformance suite (sdk/CONFORMANCE.md)."""

import itertools
import json
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from tallystick_client import (
    Client,
    InvalidEvent,
    Options,
    Problem,
    Rejection,
    SpoolFull,
    TallystickError,
    Unreachable,
    llm,
)


class Driver:
    """One client, and what it told."""

    def __init__(self) -> None:
        self.client: Client
        self.rejections: list[Rejection] = []

    def configure(self, given: dict[str, Any]) -> dict[str, Any]:
        self.rejections = []
        options = Options(
            spool=given["spool"],
            spool_bytes_max=given["spool_bytes"],
            segment_bytes=given["segment_bytes"],
            batch_events_max=given["batch_events"],
            batch_bytes_max=given["batch_bytes"],
            flush_s=given["flush_ms"] / 1000,
            timeout_s=given["timeout_ms"] / 1000,
            retry_s_min=given["retry_ms_min"] / 1000,
            retry_s_max=given["retry_ms_max"] / 1000,
            on_full="raise" if given["on_full"] == "error" else "wait",
            on_rejected=self.rejections.append,
        )
        self.client = Client(given["url"], given["key"], options=options)
        return {}

    def track(self, given: dict[str, Any]) -> dict[str, Any]:
        optional = {name: given[name] for name in ("id", "time", "source") if name in given}
        return {"id": self.client.track(given["type"], given["subject"], given.get("data"), **optional)}

    def track_many(self, given: dict[str, Any]) -> dict[str, Any]:
        numbers = itertools.count()
        ids: list[str] = []
        refused: list[int] = []

        def work() -> None:
            while (n := next(numbers)) < given["count"]:
                try:
                    ids.append(self.client.track(given["type"], given["subject"], {"n": n}))
                except SpoolFull:
                    refused.append(n)

        threads = [threading.Thread(target=work) for _ in range(given["workers"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"ids": ids, "refused": len(refused)}

    def llm(self, given: dict[str, Any]) -> dict[str, Any]:
        found: list[str | None] = []
        model, pieces = given.get("model") or "", given["pieces"]
        if len(pieces) == 1:
            found.append(llm.track(self.client, given["subject"], pieces[0], model=model))
        else:
            tracked = self.client.stats().tracked
            list(llm.stream(self.client, given["subject"], pieces, model=model))
            if self.client.stats().tracked > tracked:
                found.append("tracked")
        return {"id": found[0] if found else None}

    def flush(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"complete": self.client.flush(given["timeout_ms"] / 1000)}

    def close(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"complete": self.client.close(given["timeout_ms"] / 1000)}

    def stats(self, _given: dict[str, Any]) -> dict[str, Any]:
        found = self.client.stats()
        return {name: getattr(found, name) for name in ("tracked", "accepted", "rejected", "waiting")}

    def rejections_(self, _given: dict[str, Any]) -> dict[str, Any]:
        told = [{"id": one.event["id"], "code": one.code, "detail": one.detail} for one in self.rejections]
        return {"rejections": told}

    def send(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.client.send(given["events"], wait_recorded=given.get("wait_recorded", False))

    def usage(self, given: dict[str, Any]) -> dict[str, Any]:
        parameters = {
            ("from_" if name == "from" else name): value for name, value in given["parameters"].items()
        }
        rows = self.client.usage(given["meter"], **parameters).rows
        return {
            "rows": [
                {
                    "window_start": row.window_start,
                    "window_end": row.window_end,
                    "group": dict(row.group),
                    "value": _text(row.value),
                }
                for row in rows
            ]
        }

    def check(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self.client.check(given["customer"], given["meter"], given["amount"])
        amounts = {name: _text(getattr(found, name)) for name in ("limit", "used", "held", "remaining")}
        return {"allowed": found.allowed, **amounts}

    def reserve(self, given: dict[str, Any]) -> dict[str, Any]:
        held = self.client.reserve(
            given["customer"], given["meter"], given["amount"], ttl_seconds=given["ttl_seconds"]
        )
        return {"reservation": held.id}

    def settle(self, given: dict[str, Any]) -> dict[str, Any]:
        self.client.settle(given["reservation"], given["amount"])
        return {}

    def release(self, given: dict[str, Any]) -> dict[str, Any]:
        self.client.release(given["reservation"])
        return {}

    def create_meter(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"key": self.client.request("POST", "/v1/meters", json=given["definition"])["key"]}

    def create_customer(self, given: dict[str, Any]) -> dict[str, Any]:
        made = self.client.request("POST", "/v1/customers", json=given["definition"])
        return {"key": self.client.request("GET", f"/v1/customers/{quote(made['key'], safe='')}")["key"]}


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _failed(error: Exception) -> dict[str, Any]:
    if isinstance(error, Problem):
        return {"kind": "problem", "status": error.status, "code": error.code, "detail": error.detail}
    kinds: dict[type[TallystickError], str] = {
        Unreachable: "unreachable",
        InvalidEvent: "invalid_event",
        SpoolFull: "spool_full",
    }
    kind = next((word for kind, word in kinds.items() if isinstance(error, kind)), "other")
    return {"kind": kind, "detail": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answer until there is no more."""
    driver = Driver()
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line, parse_float=Decimal)
        op = given.pop("op")
        answer: Callable[[dict[str, Any]], dict[str, Any]] = getattr(
            driver, "rejections_" if op == "rejections" else op
        )
        try:
            said = {**answer(given), "ok": True}
        except Exception as error:
            said = {"ok": False, **_failed(error)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
