"""Secrets of keys and tokens: random, and kept as SHA-256 digests.

A plain digest is enough because a secret has 256 random bits: there is nothing to guess that a slow hash would have to
slow down, and one look-up by digest answers in microseconds. The look-up gives nothing away by its timing: whoever
varies a secret does not know what its digest varies to.
"""

import hashlib
import secrets

SECRET_CHARACTERS_MAX = 1_024
_SECRET_BYTES = 32
_PREFIX_BYTES = 4
_ORDERED_BYTES = 5
_DRAWN = 1_000


def new_id(kind: str) -> str:
    """`<kind>_<20 hex digits>`."""
    return f"{kind}_{secrets.token_hex(10)}"


class OrderedIds:
    """`<kind>_<24 hex digits>` that grow with time: what is made together lies together in an index. The random part is
    drawn for many at once. One thread asks, of the process that made it."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._drawn = ""
        self._at = 0

    def new(self, now_us: int) -> str:
        """The next one."""
        at = self._at
        if at == len(self._drawn):
            self._drawn, at = secrets.token_hex(_ORDERED_BYTES * _DRAWN), 0
        self._at = end = at + 2 * _ORDERED_BYTES
        return f"{self._kind}_{now_us:014x}{self._drawn[at:end]}"


def new_secret(mark: str) -> tuple[str, str]:
    """(prefix, secret): `<mark>_<8 hex digits>` and that with `_<43 characters>` behind."""
    prefix = f"{mark}_{secrets.token_hex(_PREFIX_BYTES)}"
    return prefix, f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    # A header can carry what no key has; a lone surrogate must find nothing rather than raise.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
