"""Limits in a configuration file: the whole limit. Those that `--prune` finds in nobody's file are deleted."""

from typing import Any, cast
from urllib.parse import quote

from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import plain
from tallystick.limits.limit import read_limit

_LEAST = ("key", "amount", "period", "enforce")


class Limits(Patched):
    name = "limits"
    label = "limit"

    def checked(self, raw: Any) -> Entry:
        return read_limit(_numbers(cast("dict[Any, Any]", raw)) if isinstance(raw, dict) else raw).to_wire()

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/limits")]

    def read(self, document: dict[str, Any]) -> Present:
        key = document["key"]
        entry = {name: value for name, value in document.items() if name not in ("created_at", "changed_at")}
        return Present(key, entry, f"/v1/limits/{quote(key, safe='')}")

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/limits", json=entry)
        return None

    def exported(self, present: Present) -> Entry:
        return {name: value for name, value in present.entry.items() if name in _LEAST or value}


def _numbers(raw: dict[Any, Any]) -> dict[str, Any]:
    """An amount as the digits that stand in the file, never as a binary float."""
    return {
        str(name): str(value) if name in ("amount", "carry_over") and value is not None else plain(value)
        for name, value in raw.items()
    }
