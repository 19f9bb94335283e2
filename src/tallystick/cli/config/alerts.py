"""Alerts in a configuration file: the whole definition. What customers have set for themselves is none of a file's."""

from typing import Any
from urllib.parse import quote

from tallystick.alerting.rule import MEMBERS, parse_rule
from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import exact_numbers, plain


class Alerts(Patched):
    name = "alerts"
    label = "alert"

    def __init__(self) -> None:
        # Any valid one: what is in it where nothing is said.
        self._defaults = parse_rule(
            {"key": "a", "meter": "a", "condition": {"op": "gte", "value": "1"}}
        ).to_wire()

    def checked(self, raw: Any) -> Entry:
        return parse_rule(exact_numbers(plain(raw))).to_wire()

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/alerts") if one["owner"] is None]

    def read(self, document: dict[str, Any]) -> Present:
        key = document["key"]
        return Present(key, {name: document[name] for name in MEMBERS}, path_of(key))

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/alerts", json=entry)
        return None

    def body(self, changes: Entry, wanted: Entry) -> Entry:
        # As a whole: a condition and its window go together.
        return wanted

    def exported(self, present: Present) -> Entry:
        least = {"key", "condition"}
        defaults = {**self._defaults, "meter": None, "name": present.key, "window": None}
        return {
            name: value for name, value in present.entry.items() if name in least or value != defaults[name]
        }


def path_of(key: str) -> str:
    """Where the API has an alert."""
    return f"/v1/alerts/{quote(key, safe='')}"
