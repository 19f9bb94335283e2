"""Salesforce: customers as accounts, found by a field that is an external id (REST API, upsert with sObject collections).

It logs in by OAuth's client credentials. Fields are made beforehand: docs/howto/crm.md lists them.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import httpx

from tallystick.crm.answers import TIME_S_MAX, document_of, refusal, sent
from tallystick.crm.interface import Account, Value
from tallystick.errors import Unavailable

ID_FIELD = "Tallystick_Customer__c"
VERSION = "v62.0"
_SYSTEM = "Salesforce"
_TOO_MANY = "REQUEST_LIMIT_EXCEEDED"
_LOCKED = "UNABLE_TO_LOCK_ROW"
_LIMIT_WAIT_S = 900
_LOCK_WAIT_S = 2


class Salesforce:
    """`url`: https://mydomain.my.salesforce.com; the rest is of a connected app whose flow is client credentials."""

    accounts_max = 200

    def __init__(self, url: str, client_id: str, client_secret: str) -> None:
        self._client = httpx.Client(timeout=TIME_S_MAX)
        self._url = url.rstrip("/")
        self._login = {
            "grant_type": "client_credentials",
            "client_id": client_id,
            "client_secret": client_secret,
        }
        self._token: tuple[str, str] | None = None

    def push(self, accounts: Sequence[Account]) -> Mapping[str, str]:
        records = [
            {"attributes": {"type": "Account"}, ID_FIELD: one.key, "Name": one.name, **_fields(one)}
            for one in accounts
        ]
        answer = self._upsert(records)
        if answer.status_code == 401:  # a token ends without notice
            self._token = None
            answer = self._upsert(records)
        found = document_of(answer)
        if _code(found) == _TOO_MANY:
            raise Unavailable(f"{_SYSTEM} has had all requests of the day.", retry_after_s=_LIMIT_WAIT_S)
        if answer.status_code >= 400 or not isinstance(found, list):
            raise refusal(_SYSTEM, answer)
        refused: dict[str, str] = {}
        for account, result in zip(accounts, found, strict=True):  # in the order they were sent in
            if result["success"]:
                continue
            codes = {error.get("statusCode") for error in result["errors"]}
            if _LOCKED in codes:
                raise Unavailable(f"An account is locked in {_SYSTEM}.", retry_after_s=_LOCK_WAIT_S)
            refused[account.key] = "; ".join(str(error.get("message")) for error in result["errors"])
        return refused

    def _upsert(self, records: Sequence[Mapping[str, Any]]) -> httpx.Response:
        token, instance = self._token or self._logged_in()
        request = self._client.build_request(
            "PATCH",
            f"{instance}/services/data/{VERSION}/composite/sobjects/Account/{ID_FIELD}",
            headers={"authorization": f"Bearer {token}"},
            json={"allOrNone": False, "records": records},
        )
        return sent(self._client, _SYSTEM, request)

    def _logged_in(self) -> tuple[str, str]:
        request = self._client.build_request("POST", f"{self._url}/services/oauth2/token", data=self._login)
        answer = sent(self._client, _SYSTEM, request)
        found = document_of(answer)
        if answer.status_code != 200 or not isinstance(found, dict):
            raise refusal(_SYSTEM, answer)
        self._token = (found["access_token"], str(found.get("instance_url") or self._url).rstrip("/"))
        return self._token

    def close(self) -> None:
        self._client.close()


def _fields(account: Account) -> dict[str, str | float | None]:
    return {field_of(name): _plain(value) for name, value in account.facts.items()}


def field_of(name: str) -> str:
    """`usage_tokens` → `Tallystick_Usage_Tokens__c`."""
    return "Tallystick_" + "_".join(part.capitalize() for part in name.split("_") if part) + "__c"


def _plain(value: Value) -> str | float | None:
    """Number fields of Salesforce are binary floats on the wire: what is shown there is no basis of anything."""
    return float(value) if isinstance(value, Decimal) else value


def _code(document: Any) -> str | None:
    """Of an error: a list of `{"message", "errorCode"}`."""
    first = document[0] if isinstance(document, list) and document else None
    return first.get("errorCode") if isinstance(first, dict) else None
