"""Channels in a configuration file. A secret never stands in it: `secret_from` names the environment variable that holds it.

Without `secret_from`, the server makes a secret when a webhook is made, which is told once. The tenant's channels alone: those that
customers have made for themselves are theirs.
"""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tallystick.cli.client import Api, parsed
from tallystick.cli.config.noun import Entry, Patched, Present, Step
from tallystick.cli.config.shape import checked_members, fault
from tallystick.delivery.signature import checked_secret, fingerprint
from tallystick.errors import Invalid

_DEFAULTS: Entry = {
    "name": None,
    "url": None,
    "to": [],
    "events": [],
    "match": None,
    "batch": 1,
    "ordered": False,
    "signature": None,
    "enabled": True,
}
_KINDS: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "type": (str,),
    "name": (str,),
    "url": (str, type(None)),
    "to": (list,),
    "events": (list,),
    "match": (dict, type(None)),
    "batch": (int,),
    "ordered": (bool,),
    "signature": (str, type(None)),
    "enabled": (bool,),
    "secret_from": (str,),
}
_FINGERPRINT = "secret_fingerprint"


class Channels(Patched):
    name = "channels"
    label = "channel"

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment = environment
        self._secrets: dict[str, str] = {}
        """By fingerprint, so that no secret is ever a member of an entry, which is shown."""

    def checked(self, raw: Any) -> Entry:
        entry = checked_members(raw, _KINDS, required=("key", "type"), texts=("to", "events"))
        for name in ("to", "events"):
            if name in entry:
                entry[name] = list(dict.fromkeys(entry[name]))
        variable = entry.pop("secret_from", None)
        if variable is not None:
            entry[_FINGERPRINT] = self._remembered(variable, entry.get("signature") or "hmac")
        return entry

    def _remembered(self, variable: str, kind: str) -> str:
        secret = self._environment.get(variable)
        if not secret:
            said = fault("/secret_from", "missing", f"The environment variable {variable[:60]} is not set.")
            raise Invalid(said.detail, faults=[said])
        try:
            kept = checked_secret(secret, kind)
        except ValueError as error:
            said = fault("/secret_from", "invalid_secret", f"The secret in {variable[:60]} {error}")
            raise Invalid(said.detail, faults=[said]) from error
        self._secrets[fingerprint(kept)] = kept
        return fingerprint(kept)

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/channels") if one["customer"] is None]

    def read(self, document: dict[str, Any]) -> Present:
        entry: Entry = {name: document[name] for name in ("key", "type", *_DEFAULTS, _FINGERPRINT)}
        return Present(document["key"], entry, f"/v1/channels/{quote(document['key'], safe='')}")

    def ordered(self, steps: list[Step]) -> list[Step]:
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        made = parsed(api.send("POST", "/v1/channels", json=self._body(entry)).text)
        secret = made.get("secret")
        return None if secret is None else f"secret (shown this once): {secret}"

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        body = self._body({**present.entry, **wanted}, changed=_FINGERPRINT in changes)
        api.send("PUT", present.path, json=body, headers=dict(headers))

    def _body(self, entry: Entry, *, changed: bool = True) -> Entry:
        """As the API takes it."""
        body = {name: value for name, value in entry.items() if name != _FINGERPRINT and value is not None}
        secret = self._secrets.get(entry.get(_FINGERPRINT) or "")
        return {**body, "secret": secret} if changed and secret is not None else body

    def exported(self, present: Present) -> Entry:
        defaults = {**_DEFAULTS, "name": present.key, "signature": "hmac"}
        return {
            name: value
            for name, value in present.entry.items()
            if name != _FINGERPRINT
            and value is not None
            and (name not in defaults or value != defaults[name])
        }
