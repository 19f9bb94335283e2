"""The web pages: what `make web` has built, served beside the API from the package's own directory.

The pages are data in memory. They reach the server as any client does: over the public API, with a key. Only the paths
below are theirs; every other path is the API's, so a misspelt route stays a 404 and is not answered with a page. A person
who has misspelt a page's path is told so by a page, with that same 404: browsers ask for `text/html`, programs do not.
"""

import mimetypes
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.config import Settings
from tallystick.errors import Fault, Invalid

DIRECTORY = Path(__file__).parents[1] / "web_dist"
"""Where `make web` builds to."""

PAGES = frozenset(
    {
        "access",
        "alerts",
        "audit",
        "backfills",
        "channels",
        "credits",
        "customers",
        "events",
        "explore",
        "invoices",
        "limits",
        "meters",
        "plans",
        "portal",
        "sign-in",
        "sources",
        "start",
        "status",
        "views",
    }
)
"""First segments of the pages' paths; web/src/routes.ts has the same."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "frame-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'"
)
POLICY = f"{_POLICY}; frame-ancestors 'none'"
_HASHED = "public, max-age=31536000, immutable"
_FEATURES = b"@features@"


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str


class Web:
    """ASGI application around `inner`, the API."""

    def __init__(self, inner: ASGIApp, settings: Settings, directory: Path = DIRECTORY) -> None:
        self._inner = inner
        self._files = _read(directory)
        # Customers' own pages are there to be embedded; they hold no key but the one that the embedding page gives them.
        self._portal_policy = f"{_POLICY}; frame-ancestors {_ancestors(settings.portal_frame_ancestors)}"
        self._page = _page(self._files.pop("index.html", None), settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            first, _, rest = scope["path"].removeprefix("/").partition("/")
            if first == "assets" or (first in _LOOSE and not rest):
                found = self._files.get(scope["path"].removeprefix("/"))
                if found is not None:
                    await self._send(scope, send, found, _HASHED if first == "assets" else "no-cache")
                    return
            elif not first or first in PAGES:
                policy = self._portal_policy if first == "portal" else POLICY
                await self._send(scope, send, self._page, "no-cache", policy)
                return
            elif first != "v1" and _is_browser(scope):
                await self._inner(scope, receive, self._told_by_page(scope, send))
                return
        await self._inner(scope, receive, send)

    def _told_by_page(self, scope: Scope, send: Send) -> Send:
        """Answers as the API does, but for a 404: that is answered with the page, which says so itself."""
        missing = False

        async def told(message: Message) -> None:
            nonlocal missing
            if message["type"] == "http.response.start" and message["status"] == 404:
                missing = True
                await self._send(scope, send, self._page, "no-cache", POLICY, status=404)
            elif not missing:
                await send(message)

        return told

    async def _send(
        self,
        scope: Scope,
        send: Send,
        file: _File,
        cache: str,
        policy: str | None = None,
        *,
        status: int = 200,
    ) -> None:
        scope["path_template"] = "web"  # type: ignore[typeddict-item]  # what the shell counts it under
        headers = [
            (b"content-type", file.media_type.encode()),
            (b"content-length", b"%d" % len(file.content)),
            (b"cache-control", cache.encode()),
        ]
        if policy is not None:
            headers.append((b"content-security-policy", policy.encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": file.content, "more_body": False})


def _is_browser(scope: Scope) -> bool:
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


_LOOSE = ("favicon.svg", "portal.js")
"""Files with a name of their own, for those who link to them from elsewhere."""


def _read(directory: Path) -> dict[str, _File]:
    """Every file of the built pages, by its path."""
    if not (directory / "index.html").is_file():
        return {}
    return {
        path.relative_to(directory).as_posix(): _File(path.read_bytes(), _media_type(path))
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _media_type(path: Path) -> str:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    # What a system's own table says of scripts differs.
    kind = "text/javascript" if path.suffix == ".js" else kind
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


_ANCESTOR = re.compile(r"\*|'self'|'none'|https?://(\*\.)?[A-Za-z0-9.-]+(:(\d{1,5}|\*))?")


def _ancestors(setting: str) -> str:
    """Which pages may embed the portal, as the policy says it. Raises Invalid for what is no origin: a policy that browsers do
    not understand would protect from nothing."""
    named = setting.split()
    wrong = [one for one in named if _ANCESTOR.fullmatch(one) is None]
    if wrong or not named:
        detail = (
            "TALLYSTICK_PORTAL_FRAME_ANCESTORS: "
            f"{wrong[0] if wrong else setting!r} is neither an origin such as https://app.example.com nor *, 'self' or 'none'."
        )
        fault = Fault("portal_frame_ancestors", "invalid_setting", detail)
        raise Invalid(detail, code="invalid_setting", faults=[fault])
    return " ".join(named)


def _page(built: _File | None, settings: Settings) -> _File:
    if built is None:
        return _File(_ABSENT.encode(), "text/html; charset=utf-8")
    features = {
        "billing": settings.billing == "on",
        "login": bool(settings.oidc_issuer and settings.oidc_return_url),
    }
    said = " ".join(name for name, on in features.items() if on)
    return _File(built.content.replace(_FEATURES, escape(said).encode()), built.media_type)


_ABSENT = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Tallystick</title></head><body>
<h1>Tallystick is running</h1>
<p>Its web pages have not been built into this installation. In a checkout, <code>make web</code> builds them (Node 20 or
newer is needed); then start the server again. The released wheel has them.</p>
<p>The API is at <a href="/docs">/docs</a> and <a href="/openapi.json">/openapi.json</a>, its state at
<a href="/health/ready">/health/ready</a>.</p>
</body></html>
"""
