"""Reports in a configuration file: the whole definition."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import plain
from tallystick.reporting.report import read_report

_MEMBERS = ("key", "name", "view", "schedule", "format", "channel", "enabled")


class Reports(Patched):
    name = "reports"
    label = "report"

    def checked(self, raw: Any) -> Entry:
        return read_report(plain(raw)).to_wire()

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/reports")]

    def read(self, document: dict[str, Any]) -> Present:
        key = document["key"]
        entry = {name: document[name] for name in _MEMBERS}
        return Present(key, entry, f"/v1/reports/{quote(key, safe='')}")

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/reports", json=entry)
        return None

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        api.send("PUT", present.path, json=wanted, headers=dict(headers))

    def exported(self, present: Present) -> Entry:
        defaults = {"name": present.key, "enabled": True}
        return {
            name: value
            for name, value in present.entry.items()
            if name not in defaults or value != defaults[name]
        }
