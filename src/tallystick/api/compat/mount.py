"""Where the vendors' APIs meet ours: whose request it is, where its key stands, and how its errors are worded.

Routes are checked, counted and documented like any other of ours. This layer lies right around the framework, so that
errors of every origin (no route, no key, no scope, a body that cannot be read) come out in the vendor's shape.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from litestar.types import ASGIApp, ControllerRouterHandler, Message, Receive, Scope, Send

from tallystick.api.compat import amberflo, lago, openmeter, stripe
from tallystick.api.compat.vendor import Problem, Vendor
from tallystick.api.problem import PROBLEM_TYPE
from tallystick.api.telemetry import OTLP, otlp_refusal
from tallystick.config import Settings
from tallystick.errors import Invalid

VENDORS: Sequence[Vendor] = (openmeter.VENDOR, lago.VENDOR, amberflo.VENDOR, stripe.VENDOR)
NAMES = ("openmeter", "lago", "amberflo", "stripe")
NONE = "none"

_problem = msgspec.json.Decoder(Problem)
_PROBLEM_TYPE = PROBLEM_TYPE.encode()


def vendors_of(settings: Settings) -> Sequence[Vendor]:
    """Those that the setting `compat` names. Raises Invalid for one there is not."""
    named = {name.strip() for name in settings.compat.split(",")} - {"", NONE}
    unknown = sorted(named - set(NAMES))
    if unknown:
        raise Invalid(
            f"compat: {', '.join(unknown)} is not known; there are {', '.join(NAMES)}, and {NONE}.",
            code="invalid_setting",
        )
    return [vendor for vendor in VENDORS if vendor.name in named]


def compat_routes(settings: Settings) -> Sequence[ControllerRouterHandler]:
    """The routes of the vendors that are on."""
    billing = settings.billing == "on"
    return [
        route
        for vendor in vendors_of(settings)
        for route in (*vendor.routes, *(vendor.billing_routes if billing else ()))
    ]


class Compat:
    """ASGI application around `inner`, the framework."""

    def __init__(self, inner: ASGIApp, vendors: Sequence[Vendor]) -> None:
        self._inner = inner
        self._vendors = {vendor.name: vendor for vendor in vendors}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vendor = None
        if scope["type"] == "http":
            vendor = self._vendors.get(scope["path"].removeprefix("/").partition("/")[0])
        if vendor is None:
            if scope["type"] == "http" and scope["path"].startswith(OTLP):
                given = dict(scope["headers"]).get(b"content-type", b"")
                send = _worded(lambda problem: otlp_refusal(problem.status, problem.detail, given), send)
            await self._inner(scope, receive, send)
            return
        secret = vendor.secret_of(dict(scope["headers"]))
        if secret is not None:
            others = [header for header in scope["headers"] if header[0] != b"authorization"]
            scope["headers"] = [*others, (b"authorization", b"Bearer " + secret)]
        await self._inner(scope, receive, _worded(partial(_in_words_of, vendor, scope["path"]), send))


def _in_words_of(vendor: Vendor, path: str, problem: Problem) -> tuple[int, str, bytes]:
    answer = vendor.error_of(problem, path)
    return answer.status, answer.media_type, msgspec.json.encode(answer.document)


def _worded(words: Callable[[Problem], tuple[int, str, bytes]], send: Send) -> Send:
    """Passes answers on, problem documents in other words: a status, a media type and a body."""
    held: Any = None
    pieces: list[bytes] = []

    async def send_on(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            if dict(message["headers"]).get(b"content-type", b"").startswith(_PROBLEM_TYPE):
                held = message
                return
        elif held is not None and message["type"] == "http.response.body":
            pieces.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            status, media_type, body = words(_problem.decode(b"".join(pieces)))
            own = (b"content-type", b"content-length")
            headers = [header for header in held["headers"] if header[0] not in own]
            headers += [
                (b"content-type", media_type.encode()),
                (b"content-length", b"%d" % len(body)),
            ]
            start: Any = {**held, "status": status, "headers": headers}
            await send(start)
            message = {**message, "body": body, "more_body": False}
        await send(message)

    return send_on
