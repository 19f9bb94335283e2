"""Continuous exports in a configuration file. Where one goes and what it holds are for ever: another key for anything else."""

from typing import Any
from urllib.parse import quote

from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import checked_members
from tallystick.errors import TallystickError

_DEFAULTS: Entry = {
    "prefix": "",
    "every": "PT5M",
    "partitioning": "date",
    "meters": None,
    "paused": False,
}
_KINDS: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "what": (str,),
    "url": (str,),
    "prefix": (str,),
    "every": (str,),
    "partitioning": (str,),
    "meters": (list,),
    "paused": (bool,),
}
_CHANGEABLE = ("every", "paused")


class Exports(Patched):
    name = "exports"
    label = "export"

    def checked(self, raw: Any) -> Entry:
        return checked_members(raw, _KINDS, required=("key", "what", "url"), texts=("meters",))

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/exports")]

    def read(self, document: dict[str, Any]) -> Present:
        entry: Entry = {name: document[name] for name in _KINDS}
        return Present(document["key"], entry, f"/v1/exports/{quote(document['key'], safe='')}")

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/exports", json=entry)
        return None

    def body(self, changes: Entry, wanted: Entry) -> Entry:
        fixed = [name for name in changes if name not in _CHANGEABLE]
        if fixed:
            raise TallystickError(
                f"The export {wanted['key']!r} cannot change its {', '.join(fixed)}: what it has written lies there. Make one "
                "with another key."
            )
        return changes

    def exported(self, present: Present) -> Entry:
        return {
            name: value
            for name, value in present.entry.items()
            if name not in _DEFAULTS or value != _DEFAULTS[name]
        }
