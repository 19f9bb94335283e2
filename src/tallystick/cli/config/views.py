"""Views in a configuration file. A file's views are everybody's, unless it says otherwise; private ones of people are theirs."""

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import plain
from tallystick.reporting.view import read_view

_MEMBERS = ("key", "name", "description", "visibility", "question")


class Views(Patched):
    name = "views"
    label = "view"

    def checked(self, raw: Any) -> Entry:
        entry: Any = plain(raw)
        if isinstance(entry, dict):
            entry = {"visibility": "shared", **cast("Entry", entry)}
        return read_view(entry).to_wire()

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/views")]

    def read(self, document: dict[str, Any]) -> Present:
        key = document["key"]
        theirs = document["visibility"] == "private" and not document["mine"]
        entry = {name: document[name] for name in _MEMBERS}
        return Present(key, entry, f"/v1/views/{quote(key, safe='')}", kept=theirs)

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/views", json=entry)
        return None

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        api.send("PUT", present.path, json=wanted, headers=dict(headers))

    def exported(self, present: Present) -> Entry:
        defaults = {"name": present.key, "description": None, "visibility": "shared"}
        entry = {
            name: value
            for name, value in present.entry.items()
            if name in ("key", "question") or value != defaults[name]
        }
        least = read_view({"key": "a", "question": {"meter": "a"}}).question.to_wire()
        question = cast("Entry", entry["question"])
        entry["question"] = {
            name: value
            for name, value in question.items()
            if name == "meter" or (value is not None and value != least[name])
        }
        return entry
