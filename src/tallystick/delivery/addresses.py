"""Which addresses a user's URL may lead to.

Whoever can create a channel could otherwise make this server ask its own network: a cloud's metadata service, a database's
admin page, itself (server-side request forgery). So a name is resolved here, every address it has is judged, and the
connection goes to an address that was judged: resolving a second time could answer something else (DNS rebinding).
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

Resolve = Callable[[str, int], Awaitable[list[str]]]

URL_CHARACTERS_MAX = 2048
RESOLVE_S_MAX = 5.0
_RESOLVING_THREADS = 16
_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")


class UnusableURL(ValueError):
    """Why a URL cannot be sent to: a stable code and a sentence that follows the place's name."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def is_public(text: str) -> bool:
    """Whether an address belongs to the internet at large, also when it is an IPv4 address in IPv6 dress."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return all(
        each.is_global and not each.is_multicast and not each.is_reserved for each in _meanings(address)
    )


def _meanings(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address itself, or the IPv4 addresses it stands for."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.scope_id is not None:
        return [IPv6Address("::1")]  # of one link, whatever it looks like
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    if address.teredo is not None:
        return [address, *address.teredo]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    # All that IANA gives out lies here; beyond it are older ways to spell private and IPv4 addresses.
    return [address] if address in _GLOBAL_UNICAST else [IPv6Address("::1")]


def parsed(url: str) -> httpx.URL:
    """The URL, of a form that can be sent to. Raises UnusableURL (invalid_url)."""
    if len(url) > URL_CHARACTERS_MAX or any(character <= " " or character == "\x7f" for character in url):
        raise UnusableURL("invalid_url", f"must be a URL of at most {URL_CHARACTERS_MAX} characters.")
    try:
        made = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, UnicodeError) as error:
        raise UnusableURL("invalid_url", "must be a URL such as https://example.com/hook.") from error
    if made.scheme not in ("http", "https") or not made.host:
        raise UnusableURL("invalid_url", "must be a URL such as https://example.com/hook.")
    if made.userinfo:
        raise UnusableURL("invalid_url", "must name no user or password: messages are signed instead.")
    return made


def port_of(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


class Guard:
    """Resolves names and judges what they lead to. `allow_private`: everything may be reached (a setting)."""

    def __init__(self, *, allow_private: bool, resolve: Resolve | None = None) -> None:
        self._allow_private = allow_private
        self._threads = ThreadPoolExecutor(_RESOLVING_THREADS, thread_name_prefix="resolve")
        self._resolve = resolve or self._by_system

    async def addresses(self, url: httpx.URL) -> list[str]:
        """Where to connect for this URL, in the order to try. Raises UnusableURL (address_refused, name_not_resolved)."""
        try:
            async with asyncio.timeout(RESOLVE_S_MAX):
                found = await self._resolve(url.raw_host.decode("ascii").strip("[]"), port_of(url))
        except (OSError, UnicodeError, TimeoutError) as error:
            raise UnusableURL("name_not_resolved", f"the name {url.host!r} has no address.") from error
        if not found:
            raise UnusableURL("name_not_resolved", f"the name {url.host!r} has no address.")
        # One bad address is enough: a name that leads both ways is a trap or a mistake.
        if not self._allow_private and not all(map(is_public, found)):
            raise UnusableURL(
                "address_refused",
                "leads to a private, loopback or link-local address. The setting webhook_allow_private allows that.",
            )
        return found

    async def check(self, url: str) -> None:
        """For a URL that is about to be kept: raises UnusableURL, but not for a name that has no address just now."""
        try:
            await self.addresses(parsed(url))
        except UnusableURL as error:
            if error.code != "name_not_resolved":
                raise

    async def _by_system(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
