"""Every error as RFC 9457 `application/problem+json`, in one place.

`{"type","title","status","detail","code","errors":[{"pointer","code","detail"}]}`; `code` is stable and documented in
docs/reference/errors.md. What the framework raises is translated to our own tree here, so that a client meets one
shape only; what nobody expected becomes 500 `internal`, whose cause stands in the log under the request's id.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from tallystick import errors
from tallystick.errors import TallystickError

PROBLEM_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:tallystick:problem:"


class MethodNotAllowed(TallystickError):
    """This method is not allowed here."""

    status = 405
    default_code = "method_not_allowed"


class NotAcceptable(TallystickError):
    """None of the content types asked for can be given."""

    status = 406
    default_code = "not_acceptable"


class RequestTimeout(TallystickError):
    """The request's body did not arrive in time."""

    status = 408
    default_code = "request_timeout"


class Internal(TallystickError):
    """Something went wrong on our side."""

    status = 500
    default_code = "internal"


_CLASS_OF_STATUS: Mapping[int, type[TallystickError]] = {
    400: errors.BadRequest,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    408: RequestTimeout,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.Invalid,
    429: errors.TooManyRequests,
    503: errors.Unavailable,
    504: errors.TimedOut,
}


def translated(error: BaseException) -> TallystickError:
    """The error of our tree that stands for `error`; `Internal` for what nobody expected."""
    if isinstance(error, TallystickError):
        return error
    if isinstance(error, HTTPException):
        return _translated_http(error)
    return Internal("An unexpected error. The log has the cause under this request's id.")


def _translated_http(error: HTTPException) -> TallystickError:
    status = error.status_code
    if status == 404:
        return errors.NotFound("There is no such route.", code="route_not_found")
    if status == 405:
        allowed = (error.headers or {}).get("allow", "")
        return MethodNotAllowed(f"This route answers {allowed or 'other methods'} only.")
    if status == 413:
        return errors.TooLarge("The request's body is larger than this route takes.")
    if status == 400 and isinstance(error.extra, list):
        # The framework's validation of declared parameters: it could be read, and is wrong.
        faults = [
            errors.Fault(str(item.get("key", "")), "invalid", str(item.get("message", "")))
            for item in error.extra
            if isinstance(item, dict)
        ]
        return errors.Invalid("The request's parameters are not valid.", faults=faults)
    found = _CLASS_OF_STATUS.get(status)
    if found is None:
        return Internal("An unexpected error. The log has the cause under this request's id.")
    return found(error.detail if status < 500 else HTTPStatus(status).phrase)


def problem_body(error: TallystickError, *, extra: Mapping[str, Any] | None = None) -> bytes:
    """The document, encoded. `extra` adds members of its own (RFC 9457 section 3.2)."""
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title(),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "errors": [
            {"pointer": fault.pointer, "code": fault.code, "detail": fault.detail} for fault in error.faults
        ],
    }
    if extra:
        document.update(extra)
    return msgspec.json.encode(document)


def problem_headers(error: TallystickError) -> list[tuple[str, str]]:
    """Headers an error brings along, beside Content-Type."""
    headers: list[tuple[str, str]] = []
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(error.retry_after_s)))
    if error.status == 401:
        headers.append(("www-authenticate", 'Bearer realm="tallystick"'))
    return headers


def exception_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler for everything. The shell (api/shell.py) logs what is `Internal`."""
    found = translated(error)
    if found.status == 500:
        request.scope["tallystick_cause"] = error  # type: ignore[typeddict-unknown-key]
    headers = dict(problem_headers(found))
    if isinstance(error, HTTPException) and error.status_code == 405 and error.headers:
        headers["allow"] = error.headers.get("allow", "")
    return Response(
        content=problem_body(found), status_code=found.status, media_type=PROBLEM_TYPE, headers=headers
    )
