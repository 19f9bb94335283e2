"""How values look on the wire, and how they are read from it: times, decimals, JSON bodies, lists, parameters.

For route handlers:

    @get("/v1/meters", guards=[require("meters:read")], opt={"operation": operation(...)})   # see api/openapi.py
    async def list_meters(request: Request[Any, Any, Any]) -> dict[str, Any]:
        check_parameters(request, {"limit", "cursor"})
        page = page_of(request)

Handlers take the request alone, read their body with `await json_body(request)` and answer plain dicts; errors are
raised (errors.py) and rendered by problem.py. Path parameters arrive percent-decoded, `%2F` included.
"""

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeVar, cast

from litestar import Request

from tallystick.errors import BadRequest, Fault, Invalid, TooLarge, UnsupportedMediaType
from tallystick.metering.instant import instant_text
from tallystick.metering.position import Vector, partition_of

if TYPE_CHECKING:
    from tallystick.flows.system import System

T = TypeVar("T")

JSON_BODY_BYTES_MAX = 1024 * 1024
JSON_DEPTH_MAX = 64
BODY_TIME_S_MAX = 30
LIST_LIMIT_DEFAULT = 100
LIST_LIMIT_MAX = 1000
CURSOR_LENGTH_MAX = 4096

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII
)
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)


def system_of(request: Request[Any, Any, Any]) -> "System":
    """The parts behind the API."""
    return cast("System", request.app.state["system"])


# -- faults ---------------------------------------------------------------------------------------------------------
class Faults:
    """Collects what is wrong with a request, so that everything is reported at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, pointer: str, code: str, detail: str) -> None:
        self.found.append(Fault(pointer, code, detail))

    def take(self, error: Invalid) -> None:
        """Keep the faults of an error (or the error itself, when it names no place)."""
        self.found.extend(error.faults or (Fault("", error.code, error.detail),))

    def attempt(self, read: Callable[[], T], fallback: T) -> T:
        """`read()`, or `fallback` with its faults kept."""
        try:
            return read()
        except Invalid as error:
            self.take(error)
            return fallback

    def raise_any(self) -> None:
        """Raise Invalid with all of them; its code is the first one's."""
        if self.found:
            raise Invalid(
                " ".join(fault.detail for fault in self.found[:5]), code=self.found[0].code, faults=self.found
            )


def invalid(pointer: str, code: str, detail: str) -> Invalid:
    """An Invalid with one fault."""
    return Invalid(detail, code=code, faults=[Fault(pointer, code, detail)])


# -- times ----------------------------------------------------------------------------------------------------------
def time_text(us: int) -> str:
    """RFC 3339 in UTC with `Z`; a fraction only where there is one."""
    return instant_text(us)


def optional_time_text(us: int | None) -> str | None:
    return None if us is None else time_text(us)


def parse_time(text: object, pointer: str) -> int:
    """Microseconds since 1970 of an RFC 3339 time with any offset; finer fractions are cut off.

    A leap second (`:60`) is the first moment of the next minute. Raises Invalid (invalid_time) naming `pointer`."""
    match = _TIME.match(text) if isinstance(text, str) else None
    if match is None:
        hint = " (in a URL, `+` is written `%2B`)" if isinstance(text, str) and " " in text else ""
        raise invalid(
            pointer,
            "invalid_time",
            f"{pointer}: {str(text)[:40]!r} is not an RFC 3339 time such as 2026-01-31T00:00:00Z{hint}.",
        )
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    leap = second == 60
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
        offset = timedelta(0)
        if match[8]:
            # datetime.replace refuses an hour or minute out of range, timedelta would not.
            ahead = _EPOCH.replace(hour=int(match[9]), minute=int(match[10]))
            offset = ahead - _EPOCH
            offset = -offset if match[8] == "-" else offset
        us = (moment - _EPOCH - offset) // timedelta(microseconds=1)
        us += 1_000_000 if leap else int((match[7] or "0")[:6].ljust(6, "0"))
        time_text(us)  # within years 1 to 9999 in UTC too
    except (ValueError, OverflowError):
        raise invalid(
            pointer, "invalid_time", f"{pointer}: {match[0]!r} is not a moment of the calendar."
        ) from None
    return us


# -- decimals -------------------------------------------------------------------------------------------------------
def decimal_text(value: Decimal) -> str:
    """Plain digits, no exponent, no trailing zeros, no negative zero: `1E+3` → `1000`, `0.500` → `0.5`."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def optional_decimal_text(value: Decimal | None) -> str | None:
    return None if value is None else decimal_text(value)


def parse_decimal(raw: object, pointer: str, *, scale_max: int = 18) -> Decimal:
    """An exact decimal from a string in JSON number syntax or a number that `json_body` read.

    At most 20 digits before the point and `scale_max` after it; more is Invalid (number_out_of_range)."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise invalid(pointer, "invalid_number", f"{pointer}: a decimal is needed, as a string or a number.")
    if isinstance(raw, str) and (len(raw) > 100 or not _NUMBER.match(raw)):
        raise invalid(pointer, "invalid_number", f"{pointer}: {raw[:40]!r} is not a decimal such as 12.5.")
    try:
        value = Decimal(raw)
    except InvalidOperation:
        raise invalid(pointer, "invalid_number", f"{pointer}: not a decimal.") from None
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise invalid(pointer, "invalid_number", f"{pointer}: not a decimal.")
    significant = len(digits)
    while significant > 1 and digits[significant - 1] == 0:
        significant -= 1
        exponent += 1
    if value and (significant + exponent > 20 or -exponent > scale_max):
        raise invalid(
            pointer,
            "number_out_of_range",
            f"{pointer}: at most 20 digits before the point and {scale_max} after it.",
        )
    return value if value else Decimal(0)


# -- JSON bodies ----------------------------------------------------------------------------------------------------
async def json_body(request: Request[Any, Any, Any]) -> Any:
    """The JSON document of a request: dicts, lists, strings, bools, None, int, and Decimal for numbers with a point or
    an exponent (never a float).

    At most 1 MiB, nested at most 64 deep, in at most 30 s; duplicate keys, NaN and Infinity are refused. Raises
    BadRequest (invalid_json), TooLarge, UnsupportedMediaType, RequestTimeout."""
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"Content-Type {media_type[:60]!r}: this route takes application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("This route takes no Content-Encoding.", code="unsupported_encoding")
    return parse_json(await arrived(request))


async def arrived(request: Request[Any, Any, Any]) -> bytes:
    """The body of a request. Raises RequestTimeout when it is not there in time."""
    from tallystick.api.problem import RequestTimeout

    try:
        async with asyncio.timeout(BODY_TIME_S_MAX):
            return await request.body()
    except TimeoutError:
        raise RequestTimeout(f"The body did not arrive within {BODY_TIME_S_MAX} s.") from None


async def json_object(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """As `json_body`, and it must be an object."""
    document = await json_body(request)
    if not isinstance(document, dict):
        raise invalid("", "not_an_object", "The body must be a JSON object.")
    return cast("dict[str, Any]", document)


def parse_json(body: bytes, *, bytes_max: int = JSON_BODY_BYTES_MAX) -> Any:
    """See `json_body`."""
    if len(body) > bytes_max:
        raise TooLarge(f"The body is larger than {bytes_max} bytes.")
    if not body:
        raise BadRequest("A JSON body is needed.", code="invalid_json")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8 (at byte {error.start}).", code="invalid_json") from None
    if _depth(text) > JSON_DEPTH_MAX:
        raise BadRequest(f"The body is nested deeper than {JSON_DEPTH_MAX}.", code="invalid_json")
    try:
        return json.loads(
            text,
            parse_float=Decimal,
            parse_int=_whole,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            code="invalid_json",
        ) from None


_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(text):
        mark = match[0][0]
        if mark in "[{":
            depth += 1
            if depth > deepest:
                deepest = depth
                if deepest > JSON_DEPTH_MAX:
                    break
        elif mark in "]}":
            depth -= 1
    return deepest


def _whole(text: str) -> int | Decimal:
    # int() takes quadratic time on long numerals, and Python caps it at 4300 digits: Decimal does not mind.
    return int(text) if len(text) < 40 else Decimal(text)


def _constant(text: str) -> Any:
    raise BadRequest(f"{text} is not JSON.", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest(
                    f"The member {name[:80]!r} stands twice in one object.", code="duplicate_key"
                )
            seen.add(name)
    return made


# -- parameters and lists -------------------------------------------------------------------------------------------
def check_parameters(request: Request[Any, Any, Any], allowed: Collection[str]) -> None:
    """Raise Invalid (unknown_parameter), one fault each, for query parameters outside `allowed`.

    A name ending in `[` allows `name[anything]`: `check_parameters(request, {"filter["})`."""
    prefixes = tuple(name for name in allowed if name.endswith("["))
    faults = Faults()
    for name in dict.fromkeys(key for key, _ in request.query_params.multi_items()):
        if name not in allowed and not (prefixes and name.startswith(prefixes) and name.endswith("]")):
            known = ", ".join(sorted(f"{known}…]" if known.endswith("[") else known for known in allowed))
            faults.add(
                name,
                "unknown_parameter",
                f"There is no parameter {name[:60]!r} here; known: {known or 'none'}.",
            )
    faults.raise_any()


def check_members(document: dict[str, Any], allowed: Collection[str], faults: Faults) -> None:
    """Add a fault (unknown_member) for every member of a JSON object outside `allowed`."""
    for name in document:
        if name not in allowed:
            faults.add(pointer_of(name), "unknown_member", f"There is no member {name[:60]!r} here.")


def pointer_of(*parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of a path into a body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


@dataclass(frozen=True, slots=True)
class Page:
    """What a list request asks for: `limit` items behind `after` (what `next_cursor` was made of; None: the start)."""

    limit: int
    after: list[str | int] | None


def page_of(
    request: Request[Any, Any, Any],
    shape: tuple[type[str] | type[int], ...] = (str,),
    *,
    limit_default: int = LIST_LIMIT_DEFAULT,
    limit_max: int = LIST_LIMIT_MAX,
) -> Page:
    """Read `limit` and `cursor`. `shape`: the types of the values the cursor was made of."""
    faults = Faults()
    limit = limit_default
    given = request.query_params.get("limit")
    if given is not None:
        if re.fullmatch(r"\d{1,9}", given, re.ASCII) and 1 <= int(given) <= limit_max:
            limit = int(given)
        else:
            faults.add("limit", "invalid_limit", f"limit: a whole number from 1 to {limit_max} is needed.")
    cursor = request.query_params.get("cursor")
    after: list[str | int] | None = None
    if cursor is not None:
        after = faults.attempt(lambda: read_cursor(cursor, shape), None)
    faults.raise_any()
    return Page(limit, after)


def make_cursor(*values: str | int) -> str:
    """An opaque cursor: URL-safe, to be handed back as it is."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, shape: tuple[type[str] | type[int], ...]) -> list[str | int]:
    """The values a cursor was made of. Raises Invalid (invalid_cursor)."""
    values = _values(cursor)
    if values is None or tuple(type(value) for value in values) != shape:
        raise _not_ours()
    return cast("list[str | int]", values)


def _values(cursor: str) -> list[Any] | None:
    values: Any = None
    if len(cursor) <= CURSOR_LENGTH_MAX:
        with contextlib.suppress(ValueError, RecursionError):
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            values = json.loads(raw)
    return cast("list[Any]", values) if isinstance(values, list) else None


def _not_ours() -> Invalid:
    return invalid(
        "cursor", "invalid_cursor", "cursor: not one of ours; send back next_cursor as it was answered."
    )


def make_place_cursor(place: Vector | None) -> str | None:
    """A cursor of a place among the newest events (flows/newest.py); None of None."""
    return None if place is None else make_cursor(*place)


def read_place_cursor(cursor: str) -> Vector:
    """The place a cursor was made of. Raises Invalid (invalid_cursor)."""
    values = _values(cursor)
    place = tuple(value for value in values or () if type(value) is int and 0 <= value < 1 << 64)
    partitions = [partition_of(position) for position in place]
    if not place or len(place) != len(values or ()) or partitions != sorted(set(partitions)):
        raise _not_ours()
    return place


def page_answer(items: Iterable[Any], next_cursor: str | None) -> dict[str, Any]:
    """`{"items": […], "next_cursor": …}`."""
    return {"items": list(items), "next_cursor": next_cursor}
