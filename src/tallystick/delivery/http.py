"""One POST to a user's URL: to the address that was judged, without redirects, with an end to time and bytes."""

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

import tallystick
from tallystick.delivery.addresses import Guard, UnusableURL, parsed
from tallystick.delivery.interface import ANSWER_BYTES_MAX, Sent

ADDRESSES_MAX = 3
"""How many addresses of a name are tried."""
RETRY_AFTER_S_MAX = 86_400
_KEPT_HEADERS = ("content-type", "content-length", "date", "location", "retry-after", "server")
_HEADER_CHARACTERS_MAX = 256


class Poster:
    """See above. One for a process; connections are not kept, so that each is to an address judged for it."""

    def __init__(self, guard: Guard, *, time_s_max: float) -> None:
        self._guard = guard
        self._time_s_max = time_s_max
        self._opened: httpx.AsyncClient | None = None

    async def _client(self) -> httpx.AsyncClient:
        # Made with the first message: reading the authorities takes a twentieth of a second of every start.
        context = None if self._opened else await asyncio.to_thread(ssl.create_default_context)
        if self._opened is None:
            assert context is not None
            self._opened = httpx.AsyncClient(
                verify=context,
                trust_env=False,  # a proxy would resolve the name again
                follow_redirects=False,
                timeout=self._time_s_max,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            )
        return self._opened

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        now_s: int,
        shown_target: str | None = None,
    ) -> Sent:
        """`shown_target`: what the log of attempts shows instead of the URL, where that is a secret."""
        target = shown_target or url
        asked = {
            "user-agent": f"Tallystick/{tallystick.__version__}",
            "content-type": "application/json",
            "accept-encoding": "identity",
            **headers,
        }
        try:
            async with asyncio.timeout(self._time_s_max):
                return await self._post(url, target, asked, body, now_s)
        except UnusableURL as error:
            return Sent(target, asked, error=error.code, detail=f"The URL {error.detail}")
        except (TimeoutError, httpx.TimeoutException):
            return Sent(
                target, asked, error="timed_out", detail=f"No whole answer within {self._time_s_max:g} s."
            )
        except httpx.ConnectError as error:
            code = "tls_failed" if isinstance(_root(error), ssl.SSLError) else "connect_failed"
            return Sent(target, asked, error=code, detail=str(error)[:ANSWER_BYTES_MAX])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Sent(
                target,
                asked,
                error="answer_invalid",
                detail=(str(error) or type(error).__name__)[:ANSWER_BYTES_MAX],
            )

    async def _post(self, url: str, target: str, headers: dict[str, str], body: bytes, now_s: int) -> Sent:
        client = await self._client()
        whole = parsed(url)
        addresses = (await self._guard.addresses(whole))[:ADDRESSES_MAX]
        for place, address in enumerate(addresses):
            request = client.build_request(
                "POST",
                whole.copy_with(host=address),
                headers={**headers, "host": whole.netloc.decode("ascii")},
                content=body,
                extensions={
                    "sni_hostname": whole.raw_host.decode("ascii").strip("[]"),
                    "timeout": httpx.Timeout(self._time_s_max).as_dict(),
                },
            )
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if place == len(addresses) - 1:
                    raise
                continue
            try:
                return await _read(response, target, headers, now_s)
            finally:
                await response.aclose()
        raise AssertionError("a name has at least one address")

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
        self._guard.close()


async def _read(response: httpx.Response, target: str, headers: dict[str, str], now_s: int) -> Sent:
    answer = bytearray()
    async for piece in response.aiter_raw():
        answer += piece[: ANSWER_BYTES_MAX - len(answer)]
        if len(answer) >= ANSWER_BYTES_MAX:
            break
    status = response.status_code
    error = None if 200 <= status < 300 else "redirect" if 300 <= status < 400 else "status"
    details = {"redirect": "Redirects are not followed.", "status": f"The endpoint answered {status}."}
    return Sent(
        target,
        headers,
        status=status,
        answer_headers={
            name: response.headers[name][:_HEADER_CHARACTERS_MAX]
            for name in _KEPT_HEADERS
            if name in response.headers
        },
        answer=answer.decode("utf-8", "replace"),
        error=error,
        detail=details.get(error or ""),
        retry_after_s=retry_after_s(response.headers.get("retry-after"), now_s) if error else None,
        is_gone=status == 410,
        is_final=status == 410,
    )


def retry_after_s(header: str | None, now_s: int) -> int | None:
    """What a Retry-After asks for (RFC 9110 section 10.2.3: seconds or a date), at most a day; None: nothing usable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        wanted = int(text[:9])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wanted = int((moment - datetime.fromtimestamp(now_s, UTC)).total_seconds())
    return max(0, min(wanted, RETRY_AFTER_S_MAX))


def _root(error: BaseException) -> BaseException:
    while (below := error.__cause__ or error.__context__) is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = below
    return error
