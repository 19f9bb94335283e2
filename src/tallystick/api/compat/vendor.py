"""What every vendor's file gives: its routes, where its clients put the key, and how it words an error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from litestar.types import ControllerRouterHandler
from xxhash import xxh3_128_digest

from tallystick.api.openapi import Refused, Schema, operation

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class FaultMembers(msgspec.Struct, frozen=True):
    """One thing wrong with a request: see errors.Fault."""

    pointer: str
    code: str
    detail: str


class Problem(msgspec.Struct, frozen=True):
    """An error of ours, before a vendor words it: the members of our problem document."""

    status: int
    code: str
    title: str
    detail: str
    errors: tuple[FaultMembers, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error in a vendor's words. `document` becomes JSON."""

    status: int
    document: Mapping[str, Any]
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor's API. `name` is also the prefix of its paths (`/lago/api/v1/…`) and its word in the setting `compat`.

    `billing_routes` need plans and subscriptions, and are absent with `billing` off.

    `secret_of` finds the key in the headers (names in lower case) where it is not `Authorization: Bearer`; that is
    understood everywhere. `error_of` words an error; its second argument is the path of the request.
    """

    name: str
    routes: Sequence[ControllerRouterHandler]
    error_of: Callable[[Problem, str], ErrorAnswer]
    secret_of: Callable[[Mapping[bytes, bytes]], bytes | None] = lambda headers: None
    billing_routes: Sequence[ControllerRouterHandler] = ()


def described(
    *,
    tag: str,
    error: Schema,
    error_media_type: str = "application/json",
    errors: Sequence[int] = (),
    answers: Mapping[int, dict[str, Any]] | None = None,
    **said: Any,
) -> dict[str, Any]:
    """`openapi.operation` for a vendor's route: every error has the vendor's shape `error`."""
    made = operation(tag=tag, answers=answers, **said)
    made["x-refused"] = Refused(
        name=f"{tag}Refused",
        response={"description": "Refused.", "content": {error_media_type: {"schema": error}}},
        statuses=(400, 401, 403, 404, 413, 415, 422, 429, 500, 503, 504, *errors),
    )
    return made


def uuid_of(*parts: str) -> str:
    """A UUID that is the same whenever it is asked for: vendors name things by one, we by their key."""
    # Version 8 (RFC 9562, 5.8), whose other bits are anybody's; uuid.UUID knows it from Python 3.14 on.
    number = int.from_bytes(xxh3_128_digest("\0".join(parts).encode()), "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62
    return str(UUID(int=number))


def ulid_of(*parts: str) -> str:
    """As `uuid_of`, a ULID: 26 characters of Crockford's base 32."""
    number = int.from_bytes(xxh3_128_digest("\0".join(parts).encode()), "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
