"""Who is asking, and whether they may.

`Authorization: Bearer <key>`. A key is looked up in the catalog once and then kept, under the SHA-256 of its secret (the
secret itself is never kept); the catalog's revision, asked for at most every half second, says when to forget. So a
revoked key is refused by every process within a second, by the one that revoked it at once, and while the catalog is down
the keys that are kept go on working.

The order of refusals: route (404, 405), key (401), scope (403), then the body.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from tallystick.api.rates import Rates
from tallystick.catalog.interface import Actor, Caller, Topic
from tallystick.catalog.scopes import SCOPES
from tallystick.errors import Forbidden, Unauthenticated

SECRET_LENGTH_MAX = 512
REVISION_CHECK_S = 0.4
"""Age from which the revision is asked for again, in the background."""
REVISION_AGE_S_MAX = 0.8
"""Age from which a request waits for that: with what the asking takes, a revoked key is refused within a second."""
CATALOG_WAIT_S_MAX = 2.0
CACHED_KEYS_MAX = 10_000
UNKNOWN_CACHED_S = 0.5
OUTAGE_S_MAX = 3600.0
"""How long keys that are kept count while the catalog does not answer: a process that is cut off would otherwise never
hear that one was revoked."""
USED_NOTED_S = 30.0
"""How often the moments keys were last used are written: not while a request waits."""


class Keys(Protocol):
    """What this module needs of the catalog (catalog/interface.py)."""

    def revision(self, topic: Topic = "all") -> int: ...

    def authenticate(self, secret: str, *, now_us: int) -> Caller | None: ...

    def note_used(self, key_ids: Collection[str], *, at_us: int) -> None: ...


Connection = ASGIConnection[Any, Any, Any, Any]


def caller(request: Connection) -> Caller:
    """The caller of a request whose route has a `require` guard."""
    found = request.scope.get("auth")
    if not isinstance(found, Caller):
        raise Unauthenticated("Send the header `Authorization: Bearer <key>`.")
    return found


def actor_of(request: Connection) -> Actor:
    """Who makes a change, for the audit."""
    found = caller(request)
    peer = request.client
    return Actor(found.name, found.key_id, request_id_of(request), None if peer is None else peer.host)


def forget_keys(request: Connection) -> None:
    """Call once keys, tokens or tenants have changed, before answering: what is answered holds in this process at once,
    and in others within a second."""
    authenticator: Authenticator = request.app.state["authenticator"]
    authenticator.forget()


def request_id_of(request: Connection) -> str:
    """The id that X-Request-Id answers; the shell made it."""
    return str(request.scope.get("tallystick_request_id", ""))


def require(scope: str) -> Callable[[Connection, BaseRouteHandler], Any]:
    """A Litestar guard: 401 without a valid key, 403 without the scope. Use it on every route: `guards=[require(…)]`."""
    if scope not in SCOPES:
        raise ValueError(f"{scope!r} is no scope")

    async def guard(connection: Connection, _: BaseRouteHandler) -> None:
        found = await _authenticated(connection)
        check_scope(found, scope)
        connection.scope["auth"] = found

    guard.scope = scope  # type: ignore[attr-defined]  # api/openapi.py reads it
    return guard


async def any_key(connection: Connection, _: BaseRouteHandler) -> None:
    """A Litestar guard: 401 without a valid key; whatever it may do."""
    found = await _authenticated(connection)
    check_tenant(found)
    connection.scope["auth"] = found


async def _authenticated(connection: Connection) -> Caller:
    found = connection.scope.get("auth")
    # The middleware of Idempotency-Key asks before the route does.
    if not isinstance(found, Caller):
        authenticator: Authenticator = connection.app.state["authenticator"]
        found = await authenticator.authenticate(
            connection.headers.get("authorization"), address=address_of(connection.scope)
        )
        authenticator.rates.check_request(found)
    return found


def address_of(scope: Any) -> str:
    """Where a request comes from; of a proxy, when there is one in front."""
    client = scope.get("client")
    return client[0] if client else ""


def check_scope(found: Caller, scope: str) -> None:
    """Raise Forbidden when the caller's tenant is suspended, or it lacks the scope."""
    check_tenant(found)
    if not found.allows(scope):
        raise Forbidden(f"This key lacks the scope {scope}.", code="missing_scope")


def check_tenant(found: Caller) -> None:
    """Raise Forbidden when the caller's tenant is suspended."""
    if found.suspended:
        raise Forbidden(
            "This tenant is suspended. An admin of the installation can resume it.", code="tenant_suspended"
        )


class Authenticator:
    """Keys by the SHA-256 of their secret. One event loop uses an instance."""

    def __init__(self, keys: Keys, *, now_us: Callable[[], int], rates: Rates) -> None:
        self.rates = rates
        self._keys = keys
        self._used: set[str] = set()
        self._used_noted_at = time.monotonic()
        self._now_us = now_us
        self._known: dict[bytes, Caller] = {}
        self._unknown: dict[bytes, float] = {}
        self._revision: int | None = None
        self._answered_at = time.monotonic()
        self._checked_at = float("-inf")
        self._checking: asyncio.Task[None] | None = None
        self.on_forgotten: Callable[[], None] = lambda: None
        """Called when keys have been changed by this process."""

    def kept(self, header: bytes) -> Caller | None:
        """The caller of a header value when it is kept and in force, without waiting; None: ask `authenticate`.

        For the ingest path: no await where none is needed."""
        age_s = time.monotonic() - self._checked_at
        if age_s > REVISION_CHECK_S:
            if age_s > REVISION_AGE_S_MAX:
                return None
            self._start_check()
        found = self._known.get(hashlib.sha256(header[7:]).digest()) if header[:7] in _BEARER else None
        if found is not None and found.expires_at_us is not None and found.expires_at_us <= self._now_us():
            return None
        if found is not None:
            self._used.add(found.key_id)
        return found

    async def authenticate(self, header: str | bytes | None, *, address: str = "") -> Caller:
        """Raise Unauthenticated; TooManyRequests for an address that guesses; or Unavailable when the catalog is down and
        the key is not kept."""
        if not header:
            raise Unauthenticated("Send the header `Authorization: Bearer <key>`.")
        raw = header.encode("latin-1", "replace") if isinstance(header, str) else header
        scheme, _, secret = raw.partition(b" ")
        secret = secret.strip()
        if (
            scheme.lower() != b"bearer"
            or not secret
            or len(secret) > SECRET_LENGTH_MAX
            or not secret.isascii()
        ):
            raise Unauthenticated("The header must be `Authorization: Bearer <key>`.")
        await self._check_revision()
        digest = hashlib.sha256(secret).digest()
        found = self._known.get(digest)
        if found is None:
            self.rates.check_address(address)
            if self._unknown.get(digest, 0.0) > time.monotonic():
                self.rates.failed(address)
                raise _unknown_key()
            revision = self._revision
            found = await asyncio.to_thread(
                self._keys.authenticate, secret.decode("ascii"), now_us=self._now_us()
            )
            if found is None:
                self.rates.failed(address)
                self._keep_unknown(digest)
                raise _unknown_key()
            if revision is not None and revision == self._revision:
                if len(self._known) >= CACHED_KEYS_MAX:
                    self._known.clear()
                self._known[digest] = found
        if found.expires_at_us is not None and found.expires_at_us <= self._now_us():
            self._known.pop(digest, None)
            raise Unauthenticated("This key has expired.", code="key_expired")
        self._used.add(found.key_id)
        return found

    def forget(self) -> None:
        """Look every key up again."""
        self._known.clear()
        self._unknown.clear()
        # A look-up or a check that is under way may have read what was there before: neither is to be kept.
        self._revision = None
        self._checked_at = float("-inf")
        self._checking = None
        self.on_forgotten()

    async def note_used(self) -> None:
        """Write down which keys were used since the last time. What cannot be written is written the next time."""
        used, self._used = self._used, set()
        self._used_noted_at = time.monotonic()
        if not used:
            return
        try:
            await asyncio.to_thread(self._keys.note_used, used, at_us=self._now_us())
        except Exception:
            if len(used) < CACHED_KEYS_MAX:
                self._used |= used

    def _keep_unknown(self, digest: bytes) -> None:
        # So that a client that goes on with a wrong key does not cost a look-up each time.
        if len(self._unknown) >= CACHED_KEYS_MAX:
            self._unknown.clear()
        self._unknown[digest] = time.monotonic() + UNKNOWN_CACHED_S

    async def _check_revision(self) -> None:
        age_s = time.monotonic() - self._checked_at
        if age_s <= REVISION_CHECK_S:
            return
        checking = self._start_check()
        if age_s > REVISION_AGE_S_MAX:
            # Waiting has an end: a catalog that hangs must not stop ingest any more than one that refuses.
            _, pending = await asyncio.wait((checking,), timeout=CATALOG_WAIT_S_MAX)
            if pending:
                self._checked_at = time.monotonic()

    def _start_check(self) -> "asyncio.Task[None]":
        if self._checking is None:
            self._checking = asyncio.create_task(self._read_revision())
        return self._checking

    async def _read_revision(self) -> None:
        try:
            revision = await asyncio.to_thread(self._keys.revision, "keys")
            if self._checking is not asyncio.current_task():
                return
        except Exception:
            # What is kept stays good for a time: a catalog that is down must not stop ingest.
            if time.monotonic() - self._answered_at > OUTAGE_S_MAX:
                self._known.clear()
            self._checked_at = time.monotonic()
        else:
            self._answered_at = time.monotonic()
            if revision != self._revision:
                self._known.clear()
                self._unknown.clear()
                self._revision = revision
            self._checked_at = time.monotonic()
        finally:
            if self._checking is asyncio.current_task():
                self._checking = None
        if time.monotonic() - self._used_noted_at > USED_NOTED_S:
            await self.note_used()


_BEARER = (b"Bearer ", b"bearer ")


def _unknown_key() -> Unauthenticated:
    return Unauthenticated("This key is not known, has expired, or has been revoked.", code="unknown_key")
