"""Retention in a configuration file: for how many days facts of a type are kept. Types that nobody names are kept for ever."""

from collections.abc import Mapping
from typing import Any

from tallystick.cli.client import Api, parsed
from tallystick.cli.config.noun import Entry, Present, Step
from tallystick.cli.config.shape import checked_members, fault
from tallystick.errors import Invalid

_PATH = "/v1/retention"
_KINDS: dict[str, tuple[type, ...]] = {"type": (str,), "keep_days": (int, type(None))}


class Retention:
    name = "retention"
    label = "retention of"

    def checked(self, raw: Any) -> Entry:
        entry = checked_members(raw, _KINDS, required=("type",))
        days = entry.setdefault("keep_days", None)
        if days is not None and (isinstance(days, bool) or days < 1):
            found = fault(
                "/keep_days", "invalid_value", "keep_days is 1 or more; null keeps the facts for ever."
            )
            raise Invalid(found.detail, faults=[found])
        return entry

    def key_of(self, entry: Entry) -> str:
        return entry["type"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in parsed(api.send("GET", _PATH).text)["items"]]

    def read(self, document: dict[str, Any]) -> Present:
        # Without a limit there is nothing that could go.
        entry = {"type": document["type"], "keep_days": document["keep_days"]}
        return Present(document["type"], entry, _PATH, kept=document["keep_days"] is None)

    def fresh(self, api: Api, present: Present) -> tuple[Present, str | None]:
        answer = api.send("GET", _PATH)
        found = [self.read(one) for one in parsed(answer.text)["items"] if one["type"] == present.key]
        return (found[0] if found else present), answer.headers.get("etag")

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        if entry["keep_days"] is not None:
            api.send("PUT", _PATH, json=entry)
        return None

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        api.send("PUT", _PATH, json=wanted, headers=dict(headers))

    def archive(self, api: Api, present: Present) -> None:
        """Facts of the type are kept for ever from now on."""
        api.send("PUT", _PATH, json={"type": present.key, "keep_days": None})

    def exported(self, present: Present) -> Entry:
        return present.entry
