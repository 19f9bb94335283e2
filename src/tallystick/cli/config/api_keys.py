"""API keys in a configuration file: names, scopes and ends, never secrets. A key is known by its name.

A new key's secret is told once, when it is made. Keys from the setting `admin_key` are none of a file's business; the key that
applies the file is never revoked by `--prune`.
"""

from typing import Any

from tallystick.cli.client import Api, parsed
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import checked_members, moment

_KINDS: dict[str, tuple[type, ...]] = {"name": (str,), "scopes": (list,), "expires_at": (str, type(None))}


class ApiKeys(Patched):
    name = "api_keys"
    label = "API key"

    def checked(self, raw: Any) -> Entry:
        entry = checked_members(raw, _KINDS, required=("name", "scopes"), texts=("scopes",))
        entry["scopes"] = sorted(set(entry["scopes"]))
        if entry.get("expires_at") is not None:
            entry["expires_at"] = moment(entry["expires_at"])
        return entry

    def key_of(self, entry: Entry) -> str:
        return entry["name"]

    def listed(self, api: Api) -> list[Present]:
        found: dict[str, Present] = {}
        for document in api.items("/v1/api_keys"):
            # A configured one is the settings' to change, and would be made a second time elsewhere.
            if document["revoked_at"] is not None or document["configured"]:
                continue
            one = self.read(document)
            own = api.key.startswith(document["prefix"])
            found[one.key] = Present(
                one.key,
                one.entry,
                one.path,
                doubtful=one.key in found,
                kept=own,
            )
        return list(found.values())

    def read(self, document: dict[str, Any]) -> Present:
        entry: Entry = {
            "name": document["name"],
            "scopes": sorted(document["scopes"]),
            "expires_at": document["expires_at"],
        }
        path = f"/v1/api_keys/{document['id']}"
        return Present(document["name"], entry, path)

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        made = parsed(api.send("POST", "/v1/api_keys", json=entry).text)
        return f"secret (shown this once): {made['secret']}"

    def exported(self, present: Present) -> Entry:
        return {name: value for name, value in present.entry.items() if value is not None}
