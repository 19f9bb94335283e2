"""A tax service at an address: one POST an invoice, `{"taxes": [{"name", "percent"}]}` back."""

import httpx

from tallystick.billing.terms import Tax, parse_terms
from tallystick.errors import Invalid, Unavailable
from tallystick.taxes.interface import TaxQuestion

ANSWER_BYTES_MAX = 65_536


class HttpTaxes:
    """`secret`: sent as a bearer token. Redirects are not followed."""

    def __init__(self, url: str, *, secret: str = "", time_s_max: float = 10) -> None:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        self._url = url
        self._client = httpx.Client(headers=headers, timeout=time_s_max)

    def rates(self, question: TaxQuestion) -> tuple[Tax, ...]:
        document = question.document
        asked = {
            "customer": dict(question.customer),
            **{name: document[name] for name in ("currency", "period", "subtotal", "discount")},
            "lines": [
                {name: line[name] for name in ("id", "kind", "charge", "name", "plan", "quantity", "rounded")}
                for line in document["lines"]
            ],
        }
        try:
            answer = self._client.post(self._url, json=asked)
        except httpx.HTTPError as error:
            raise _unavailable(type(error).__name__) from error
        if answer.status_code >= 500 or answer.status_code in (408, 429):
            raise _unavailable(f"HTTP {answer.status_code}")
        if answer.status_code != 200 or len(answer.content) > ANSWER_BYTES_MAX:
            raise _refused(f"HTTP {answer.status_code}, {len(answer.content)} bytes")
        try:
            raw = answer.json()
            if not isinstance(raw, dict) or not isinstance(raw.get("taxes"), list):
                raise _refused("no list of taxes")
            return parse_terms({"taxes": raw["taxes"]}).taxes
        except ValueError as error:
            raise _refused("no JSON") from error
        except Invalid as error:
            if error.code == "taxes_refused":
                raise
            raise _refused(error.detail) from error

    def close(self) -> None:
        self._client.close()


def _unavailable(why: str) -> Unavailable:
    detail = f"The tax service does not answer ({why}). The invoice waits for it."
    return Unavailable(detail, code="taxes_unavailable", retry_after_s=60)


def _refused(why: str) -> Invalid:
    detail = f"The tax service gave no rates ({why}). The invoice waits for them."
    return Invalid(detail, code="taxes_refused")
