"""Meters in a configuration file: the whole definition. A changed one becomes a new version."""

from typing import Any

from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.meters import path_of
from tallystick.metering.definition import definition_to_wire, parse_meter


class Meters(Patched):
    name = "meters"
    label = "meter"

    def __init__(self) -> None:
        # Any valid one: what a definition may hold.
        self._members = tuple(
            definition_to_wire(parse_meter({"key": "a", "event_type": "a", "aggregation": "count"}))
        )

    def checked(self, raw: Any) -> Entry:
        return dict(definition_to_wire(parse_meter(raw)))

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/meters", include_archived="true")]

    def read(self, document: dict[str, Any]) -> Present:
        entry = {name: document[name] for name in self._members}
        key = document["key"]
        return Present(key, entry, path_of(key), archived=document["archived_at"] is not None)

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/meters", json=entry)
        return None

    def body(self, changes: Entry, wanted: Entry) -> Entry:
        return wanted

    def exported(self, present: Present) -> Entry:
        least = {"key", "event_type", "aggregation"}
        return {name: value for name, value in present.entry.items() if name in least or value}
