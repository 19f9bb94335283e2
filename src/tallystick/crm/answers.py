"""What an answer of another system means for whoever asked."""

from typing import Any

import httpx

from tallystick.errors import Invalid, Unavailable

WAIT_S_DEFAULT = 10
WAIT_S_MAX = 3600
TIME_S_MAX = 30
_DETAIL_CHARACTERS_MAX = 300


def sent(client: httpx.Client, system: str, request: httpx.Request) -> httpx.Response:
    """The answer, below 500 and not 429. Raises Unavailable."""
    try:
        answer = client.send(request)
    except httpx.HTTPError as error:
        raise Unavailable(f"{system} does not answer.", retry_after_s=WAIT_S_DEFAULT) from error
    if answer.status_code == 429 or answer.status_code >= 500:
        raise Unavailable(f"{system} asks to wait ({answer.status_code}).", retry_after_s=_wait_s(answer))
    return answer


def _wait_s(answer: httpx.Response) -> int:
    text = answer.headers.get("retry-after", "").strip()
    wanted = int(text[:9]) if text.isascii() and text.isdigit() else WAIT_S_DEFAULT
    return max(1, min(wanted, WAIT_S_MAX))


def document_of(answer: httpx.Response) -> Any:
    """Its JSON; None: it has none."""
    try:
        return answer.json()
    except ValueError:
        return None


def refusal(system: str, answer: httpx.Response) -> Invalid:
    """Of everything that was asked."""
    said = answer.text[:_DETAIL_CHARACTERS_MAX]
    return Invalid(f"{system} refuses ({answer.status_code}): {said}", code="crm_refused")
