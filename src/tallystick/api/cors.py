"""Which pages in a browser may call the API (the Fetch standard's CORS protocol). Off unless the setting names origins.

Keys travel in a header that a page must set itself, never in cookies: so credentials are not allowed, and a page that has
no key can do nothing from a browser that it could not do without one."""

from collections.abc import Iterable

from tallystick.errors import Invalid

Headers = list[tuple[bytes, bytes]]

_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Content-Encoding, Accept, Idempotency-Key, If-Match, If-None-Match, "
        b"Last-Event-ID, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
]
_EXPOSED = (
    b"access-control-expose-headers",
    b"ETag, Location, Retry-After, X-Request-Id, Idempotent-Replayed, Tallystick-Position, Deprecation, Sunset",
)


class Cors:
    """The origins of the setting `cors_origins`."""

    def __init__(self, origins: str) -> None:
        """Raises Invalid (invalid_setting) for what is no origin."""
        named = [one.strip() for one in origins.split(",") if one.strip()]
        for one in named:
            scheme, _, rest = one.partition("://")
            if one != "*" and (
                scheme not in ("http", "https") or not rest or "/" in rest or not one.isascii()
            ):
                raise Invalid(
                    f"cors_origins: {one[:80]!r} is not an origin such as https://portal.example.com.",
                    code="invalid_setting",
                )
        self._all = "*" in named
        self._named = frozenset(one.lower().encode() for one in named)
        self.on = bool(named)

    def headers(self, request_headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """What an answer to this request bears."""
        origin = _first(request_headers, b"origin")
        if self._all:
            return [] if origin is None else [(b"access-control-allow-origin", b"*"), _EXPOSED]
        vary = (b"vary", b"Origin")  # also where there is none: a cache must not give one answer to both
        if origin is None or origin.lower() not in self._named:
            return [vary]
        return [(b"access-control-allow-origin", origin), _EXPOSED, vary]

    def preflight(self, request_headers: Iterable[tuple[bytes, bytes]]) -> Headers | None:
        """The headers that answer a preflight request; None: it is none."""
        headers = list(request_headers)
        if _first(headers, b"origin") is None or _first(headers, b"access-control-request-method") is None:
            return None
        found = self.headers(headers)
        allowed = any(name == b"access-control-allow-origin" for name, _ in found)
        return [*found, *_PREFLIGHT] if allowed else found


def _first(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)
