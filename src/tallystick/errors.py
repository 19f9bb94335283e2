"""Every error a user can meet, in one tree.

    TallystickError
    ├── BadRequest 400            the request cannot be read at all
    ├── Unauthenticated 401
    ├── Forbidden 403
    ├── NotFound 404
    ├── Conflict 409
    ├── PreconditionFailed 412
    ├── TooLarge 413
    ├── UnsupportedMediaType 415
    ├── Invalid 422               it can be read, and is wrong: `faults` names every place
    ├── TooManyRequests 429       with retry_after_s
    ├── Unavailable 503           a part is down or full for now, with retry_after_s
    ├── TimedOut 504
    └── StorageFull 507

An error carries a stable `code` (documented in docs/reference/errors.md) and a sentence that names the place and the
remedy. `api/problem.py` turns it into RFC 9457; `cli` prints the sentence. No other module knows status codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: where (a JSON pointer, or a parameter's name), which kind, in words."""

    pointer: str
    code: str
    detail: str


class TallystickError(Exception):
    """The root. `status` is the HTTP status, `code` the default stable code, the docstring's first line the title."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        faults: Sequence[Fault] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.faults = tuple(faults)
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by its constructor, which of some errors takes more than their text.
        return _put_together, (type(self), self.args, self.__dict__)

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")


def _put_together(
    made: type[TallystickError], arguments: tuple[Any, ...], state: dict[str, Any]
) -> TallystickError:
    error = made.__new__(made)
    error.args = arguments
    error.__dict__.update(state)
    return error


class BadRequest(TallystickError):
    """The request cannot be read."""

    status = 400
    default_code = "bad_request"


class Unauthenticated(TallystickError):
    """A valid API key is needed."""

    status = 401
    default_code = "unauthenticated"


class Forbidden(TallystickError):
    """This key may not do that."""

    status = 403
    default_code = "forbidden"


class NotFound(TallystickError):
    """There is no such thing."""

    status = 404
    default_code = "not_found"


class Conflict(TallystickError):
    """This contradicts what is already there."""

    status = 409
    default_code = "conflict"


class PreconditionFailed(TallystickError):
    """It has been changed in the meantime."""

    status = 412
    default_code = "precondition_failed"


class TooLarge(TallystickError):
    """The request is larger than the limit."""

    status = 413
    default_code = "body_too_large"


class UnsupportedMediaType(TallystickError):
    """This content type or encoding is not supported."""

    status = 415
    default_code = "unsupported_media_type"


class Invalid(TallystickError):
    """The request is not valid."""

    status = 422
    default_code = "invalid"


class TooManyRequests(TallystickError):
    """Too many requests."""

    status = 429
    default_code = "too_many_requests"


class Unavailable(TallystickError):
    """A part of the system is not available at the moment."""

    status = 503
    default_code = "unavailable"


class TimedOut(TallystickError):
    """The answer took longer than allowed."""

    status = 504
    default_code = "timed_out"


class StorageFull(TallystickError):
    """The disk is full; nothing of this request was stored."""

    status = 507
    default_code = "storage_full"
