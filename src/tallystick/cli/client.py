"""A small client of the public HTTP API: what every command but `serve` and `demo` speaks through."""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Annotated, Any, cast

import httpx
import typer

from tallystick.errors import Fault, TallystickError, Unavailable

URL_DEFAULT = "http://127.0.0.1:8080"
REQUEST_S_MAX = 90.0
RETRY_S_MAX = 300.0
"""How long one request is tried again before it is given up."""
_RETRY_FIRST_S = 0.2
_RETRY_PAUSE_S_MAX = 10.0
_PASSING = frozenset({429, 502, 503, 504})
"""Statuses that another attempt may mend."""

Url = Annotated[
    str,
    typer.Option(
        "--url", envvar="TALLYSTICK_URL", help="Where Tallystick answers.", rich_help_panel="Connection"
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar=["TALLYSTICK_KEY", "TALLYSTICK_ADMIN_KEY"],
        help="API key.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]


class Literal(str):
    """A JSON number as it was written. Answers hold figures that no binary float does."""

    __slots__ = ()


def parsed(text: str) -> Any:
    """A JSON document; numbers with a point or an exponent, and very long ones, are Literal."""
    return json.loads(
        text,
        parse_float=Literal,
        parse_int=lambda digits: int(digits) if len(digits) < 40 else Literal(digits),
    )


def json_text(value: Any) -> str:
    """What `parsed` read, as JSON again, digit for digit."""
    if isinstance(value, Literal):
        return value
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return "{" + ", ".join(f"{json_text(name)}: {json_text(member)}" for name, member in members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json_text(one) for one in cast("list[Any]", value)) + "]"
    return json.dumps(value, ensure_ascii=False)


class ApiError(TallystickError):
    """The server has refused a request."""

    def __init__(self, status_code: int, document: Mapping[str, Any], *, retry_after_s: int | None) -> None:
        super().__init__(
            str(document.get("detail") or document.get("title") or f"The server answered {status_code}."),
            code=str(document.get("code") or "unknown"),
            faults=[
                Fault(str(fault.get("pointer", "")), str(fault.get("code", "")), str(fault.get("detail", "")))
                for fault in document.get("errors") or ()
            ],
            retry_after_s=retry_after_s,
        )
        self.status_code = status_code
        self.document = document


class Api:
    """One server and one key. Safe to use from several threads at once.

    Errors are ApiError for what the server refused and Unavailable where nothing answers.
    """

    def __init__(self, url: str, key: str | None, *, connections_max: int = 8) -> None:
        self.url = url.rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise TallystickError(f"--url: {url!r} is not a URL: {error}.") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise TallystickError(f"--url: {url!r} is not a URL such as {URL_DEFAULT}.")
        if not key:
            raise TallystickError(
                "An API key is needed: give --key or set TALLYSTICK_KEY. "
                "The first start of `tallystick serve` prints one."
            )
        if not key.isascii() or not key.isprintable():
            raise TallystickError("--key: an API key has only printable ASCII characters.")
        self.key = key
        self._client = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(REQUEST_S_MAX, connect=10.0),
            limits=httpx.Limits(max_connections=connections_max),
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, one attempt."""
        try:
            response = self._client.request(method, path, **options)
        except httpx.ConnectError as error:
            raise Unavailable(
                f"Nothing answers at {self.url}. Start it with `tallystick serve`, or say where it is with --url."
            ) from error
        except httpx.TimeoutException as error:
            raise Unavailable(f"{self.url} did not answer in time.") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"The connection to {self.url} broke: {error}.") from error
        if response.status_code >= 400:
            raise ApiError(
                response.status_code, _problem(response), retry_after_s=_retry_after_s(response.headers)
            )
        return response

    @contextlib.contextmanager
    def stream(self, path: str, **options: Any) -> Generator[Iterator[bytes]]:
        """A GET whose answer is read piece by piece. Raises Unavailable when it breaks off before its end."""
        try:
            with self._client.stream("GET", path, **options) as response:
                if response.status_code >= 400:
                    response.read()
                    raise ApiError(
                        response.status_code,
                        _problem(response),
                        retry_after_s=_retry_after_s(response.headers),
                    )
                yield response.iter_bytes()
        except httpx.HTTPError as error:
            raise Unavailable(f"The connection to {self.url} broke: {error}.") from error

    def send_until_through(
        self,
        method: str,
        path: str,
        *,
        stopping: threading.Event,
        on_wait: Callable[[str], None] = lambda why: None,
        retry_s_max: float = RETRY_S_MAX,
        **options: Any,
    ) -> httpx.Response:
        """`send`, again and again while the server is away or asks to wait (429, 502, 503, 504), for at most
        `retry_s_max`. Only for requests that may be repeated: events may, identity sees to that."""
        give_up = time.monotonic() + retry_s_max
        pause_s = _RETRY_FIRST_S
        while True:
            try:
                return self.send(method, path, **options)
            except (ApiError, Unavailable) as error:
                passing = not isinstance(error, ApiError) or error.status_code in _PASSING
                wait_s = max(float(error.retry_after_s or 0), pause_s * random.uniform(0.5, 1.0))  # noqa: S311
                if not passing or time.monotonic() + wait_s > give_up:
                    raise
                on_wait(error.detail)
                if stopping.wait(wait_s):
                    raise
            pause_s = min(pause_s * 2, _RETRY_PAUSE_S_MAX)

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON document of a GET; parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return parsed(self.send("GET", path, params=given).text)

    def items(self, path: str, *, limit: int | None = None, **parameters: Any) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page; at most `limit`."""
        left = limit
        cursor: str | None = None
        while left is None or left > 0:
            size = 1000 if left is None else min(left, 1000)
            page = self.get(path, limit=size, cursor=cursor, **parameters)
            yield from page["items"]
            left = None if left is None else left - len(page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    try:
        document = parsed(response.text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return cast("dict[str, Any]", document)
    return {"detail": f"{response.request.url} answered {response.status_code} without saying why."}


def _retry_after_s(headers: Mapping[str, str]) -> int | None:
    text = headers.get("retry-after", "")
    return min(int(text), 60) if text.isdigit() and len(text) < 6 else None
