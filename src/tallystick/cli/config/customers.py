"""Customers in a configuration file. Members that an entry leaves out stay as they are."""

from typing import Any
from urllib.parse import quote

from msgspec import UNSET

from tallystick.catalog.customer_values import checked_values, text_faults
from tallystick.catalog.interface import CustomerChange
from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import checked_members, plain

_DEFAULTS: Entry = {
    "name": None,
    "subjects": [],
    "parent": None,
    "currency": None,
    "timezone": "UTC",
    "email": None,
    "external_ids": {},
    "traits": {},
    "stage": "active",
}
_KINDS: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "name": (str,),
    "subjects": (list,),
    "parent": (str, type(None)),
    "currency": (str, type(None)),
    "timezone": (str,),
    "email": (str, type(None)),
    "external_ids": (dict,),
    "traits": (dict,),
    "stage": (str,),
}


class Customers(Patched):
    name = "customers"
    label = "customer"

    def checked(self, raw: Any) -> Entry:
        entry = checked_members(raw, _KINDS, required=("key",), texts=("subjects", "external_ids"))
        given = {name: value for name, value in entry.items() if name != "key"}
        change = CustomerChange(**{name: given.get(name, UNSET) for name in _DEFAULTS})
        checked_values(change, text_faults("/key", entry["key"]))
        if "subjects" in entry:
            entry["subjects"] = sorted(set(entry["subjects"]))
        return entry

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/customers", include_archived="true")]

    def read(self, document: dict[str, Any]) -> Present:
        key = document["key"]
        entry: Entry = {"key": key, **{name: plain(document[name]) for name in _DEFAULTS}}
        entry["subjects"] = sorted(entry["subjects"])
        path = f"/v1/customers/{quote(key, safe='')}"
        return Present(key, entry, path, archived=document["archived_at"] is not None)

    def ordered(self, steps: list[Step]) -> list[Step]:
        """Parents before their children; and who gives subjects up before who gets them."""
        made = {step.key: step for step in steps if step.kind in ("create", "restore")}
        placed: dict[str, Step] = {}

        def place(step: Step, below: frozenset[str]) -> None:
            parent = (step.wanted or {}).get("parent")
            if parent in made and parent not in placed and parent not in below:
                place(made[parent], below | {step.key})
            placed[step.key] = step

        for step in sorted(steps, key=lambda step: step.kind != "change" or _gains(step)):
            if step.key not in placed:
                place(step, frozenset())
        return list(placed.values())

    def create(self, api: Api, entry: Entry) -> str | None:
        api.send("POST", "/v1/customers", json=entry)
        return None

    def exported(self, present: Present) -> Entry:
        defaults = {**_DEFAULTS, "name": present.key}
        return {
            name: value for name, value in present.entry.items() if name == "key" or value != defaults[name]
        }


def _gains(step: Step) -> bool:
    before = set(step.present.entry["subjects"]) if step.present is not None else set[str]()
    return bool(set((step.wanted or {}).get("subjects") or ()) - before)
