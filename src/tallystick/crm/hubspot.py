"""HubSpot: customers as companies, found by a property of unique values (CRM API v3, batch upsert of companies).

The properties are made beforehand, by a person or by `tallystick_*` in HubSpot's settings: docs/howto/crm.md lists them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tallystick.crm.answers import TIME_S_MAX, document_of, refusal, sent
from tallystick.crm.interface import Account

URL = "https://api.hubapi.com"
ID_PROPERTY = "tallystick_customer"
_SYSTEM = "HubSpot"
_PATH = "/crm/v3/objects/companies/batch/upsert"
_OURS_TO_MEND = (401, 403, 404)


class HubSpot:
    """`token`: of a private app with the scope crm.objects.companies.write. `url` is another only in tests."""

    accounts_max = 100

    def __init__(self, token: str, *, url: str = URL) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=TIME_S_MAX
        )

    def push(self, accounts: Sequence[Account]) -> Mapping[str, str]:
        inputs = [
            {"idProperty": ID_PROPERTY, "id": one.key, "properties": _properties(one)} for one in accounts
        ]
        request = self._client.build_request("POST", _PATH, json={"inputs": inputs})
        answer = sent(self._client, _SYSTEM, request)
        if answer.status_code in _OURS_TO_MEND:
            raise refusal(_SYSTEM, answer)
        if answer.status_code >= 400:
            if len(accounts) == 1:
                return {accounts[0].key: _message(document_of(answer)) or answer.text[:200]}
            # One that is wrong makes all of a batch wrong: the others are found by halves.
            middle = len(accounts) // 2
            return {**self.push(accounts[:middle]), **self.push(accounts[middle:])}
        return _failed(document_of(answer)) if answer.status_code == 207 else {}

    def close(self) -> None:
        self._client.close()


def _properties(account: Account) -> dict[str, str]:
    facts = {
        f"tallystick_{name}": "" if value is None else str(value) for name, value in account.facts.items()
    }
    return {"name": account.name, ID_PROPERTY: account.key, **facts}


def _message(document: Any) -> str:
    return str(document.get("message", "")) if isinstance(document, dict) else ""


def _failed(document: Any) -> dict[str, str]:
    """Of an answer 207: errors name their records in `context`."""
    found: dict[str, str] = {}
    for error in document.get("errors", []) if isinstance(document, dict) else []:
        for values in error.get("context", {}).values():
            found |= dict.fromkeys((str(value) for value in values), _message(error))
    return found
