"""Where a request comes from when proxies stand in front.

A proxy appends the address of its own peer to `X-Forwarded-For`, behind whatever the client may have written there. So the
list is read from its end, past the proxies that are trusted; the first address that is none of them is the client's. What
is no address ends the search: nothing before it can be believed.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from tallystick.errors import Fault, Invalid

_HEADER = b"x-forwarded-for"
_HOPS_MAX = 32

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The proxies that are trusted: addresses and networks with commas between them, as the setting `trusted_proxies` has
    them. Raises Invalid, with every fault at once."""

    def __init__(self, given: str) -> None:
        self._networks: list[Network] = []
        faults: list[Fault] = []
        for part in filter(None, map(str.strip, given.split(","))):
            try:
                self._networks.append(ipaddress.ip_network(part))
            except ValueError as error:
                faults.append(Fault("", "invalid_setting", f"trusted_proxies: {error}."))
        if faults:
            raise Invalid(" ".join(fault.detail for fault in faults), code="invalid_setting", faults=faults)
        self._trusts = lru_cache(4096)(self._is_within)

    @property
    def any(self) -> bool:
        return bool(self._networks)

    def client_of(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The address of the client whose connection, or whose proxy's, comes from `peer`."""
        found = peer
        if not self._trusts(peer):
            return found
        listed = b",".join(value for name, value in headers if name == _HEADER).decode("latin-1")
        for hop in reversed(listed.split(",")[-_HOPS_MAX:]):
            address = _address_in(hop.strip())
            if address is None:
                break
            found = str(address)
            if not self._trusts(found):
                break
        return found

    def _is_within(self, host: str) -> bool:
        address = _address_in(host)
        return address is not None and any(address in network for network in self._networks)


def _address_in(text: str) -> Address | None:
    """Of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`; an IPv4 address in IPv6's form is one of IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
