"""Plans in a configuration file: the whole definition, and whether its newest version is to be published.

A published version never changes: what differs from it becomes a draft, which is published only where the entry says
`publish: true`. Who has subscribed keeps the version he has.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tallystick.billing.plan import parse_plan
from tallystick.cli.client import Api, parsed
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import exact_numbers, fault, plain
from tallystick.errors import Invalid


class Plans(Patched):
    name = "plans"
    label = "plan"

    def __init__(self) -> None:
        # Any valid one: what a definition holds, and what is in it where nothing is said.
        self._defaults = parse_plan({"key": "a", "currency": "EUR"}).to_wire()

    def checked(self, raw: Any) -> Entry:
        document = exact_numbers(plain(raw))
        publish = document.pop("publish", False) if isinstance(document, dict) else False
        if not isinstance(publish, bool):
            found = fault("/publish", "invalid_value", "publish must be true or false.")
            raise Invalid(found.detail, faults=[found])
        entry: Entry = parse_plan(document).to_wire()
        # Left out, a draft stays a draft, and what is published stays so.
        return {**entry, "publish": True} if publish else entry

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/plans")]

    def read(self, document: dict[str, Any]) -> Present:
        entry = {name: document[name] for name in self._defaults} | {
            "publish": document["status"] == "published"
        }
        return Present(
            document["key"], entry, path_of(document["key"]), archived=document["status"] == "archived"
        )

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        made = {name: value for name, value in entry.items() if name != "publish"}
        api.send("POST", "/v1/plans", json=made)
        if "publish" not in entry:
            return "a draft; `publish: true` publishes it"
        api.send("POST", f"{path_of(entry['key'])}/publish")
        return None

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        members = {name: value for name, value in changes.items() if name != "publish"}
        if members:
            api.send("PATCH", present.path, json=members, headers=dict(headers))
        if "publish" in wanted:
            api.send("POST", f"{present.path}/publish")

    def archive(self, api: Api, present: Present) -> None:
        """Every version that can still be subscribed to, or become so."""
        versions = parsed(api.send("GET", f"{present.path}/versions").text)["items"]
        for one in versions:
            if one["status"] != "archived":
                api.send("POST", f"{present.path}/archive", params={"version": str(one["version"])})

    def exported(self, present: Present) -> Entry:
        defaults = {**self._defaults, "key": None, "currency": None, "name": present.key, "publish": False}
        return {name: value for name, value in present.entry.items() if value != defaults[name]}


def path_of(key: str) -> str:
    return f"/v1/plans/{quote(key, safe='')}"
