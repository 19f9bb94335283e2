"""Sources in a configuration file: the whole definition. A secret stands in it as the name of the server's variable."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import plain
from tallystick.sources.source import MEMBERS, read_source

_PATH = "/v1/sources"


class Sources(Patched):
    name = "sources"
    label = "source"

    def checked(self, raw: Any) -> Entry:
        return read_source(plain(raw)).to_wire()

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items(_PATH, include_archived="true")]

    def read(self, document: dict[str, Any]) -> Present:
        key: str = document["key"]
        entry = {name: document[name] for name in MEMBERS}
        return Present(
            key, entry, f"{_PATH}/{quote(key, safe='')}", archived=document["archived_at"] is not None
        )

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", _PATH, json=entry)
        return None

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        api.send("PUT", present.path, json={**present.entry, **wanted}, headers=dict(headers))

    def exported(self, present: Present) -> Entry:
        """Without what is a default of the kind."""
        entry = present.entry
        least = {name: entry[name] for name in ("key", "kind")}
        settings = read_source({**least, "settings": entry["settings"]}).description.settings
        given = {name: value for name, value in entry["settings"].items() if value != settings[name].default}
        rest = {name: entry[name] for name in ("name", "format", "mapping", "paused") if entry[name]}
        return {**least, **rest, **({"settings": given} if given else {})}
