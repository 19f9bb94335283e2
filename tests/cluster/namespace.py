"""A network namespace for one process, with two links to the rest of this machine that can be taken down one by one: one to the
log, one to everything else. What is sent over a link that is down is lost, and nobody is told: a real cut, by the kernel.

Needs `ip` (iproute2) and the right to make namespaces (root, or CAP_SYS_ADMIN and CAP_NET_ADMIN).
"""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field

_COMMAND_S = 10.0


def why_not() -> str | None:
    """Why no namespaces can be made here; None: they can."""
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2)"
    name = _new_name()
    try:
        _ip("netns", "add", name)
        _ip("link", "add", f"{name}x", "type", "veth", "peer", "name", f"{name}y")
    except subprocess.SubprocessError as error:
        return f"no network namespaces may be made here: {getattr(error, 'stderr', '') or error}".strip()
    finally:
        for command in (("netns", "del", name), ("link", "del", f"{name}x")):
            with contextlib.suppress(subprocess.SubprocessError):
                _ip(*command)
    return None


@dataclass(slots=True)
class Link:
    """`outside` is this machine's address on it, `inside` the namespace's."""

    device: str
    outside: str
    inside: str

    def cut(self) -> None:
        _ip("link", "set", self.device, "down")

    def mend(self) -> None:
        _ip("link", "set", self.device, "up")


@dataclass(slots=True)
class Namespace:
    """Made at once; `close` takes it away with its links."""

    name: str = field(default_factory=lambda: _new_name())
    log: Link = field(init=False)
    rest: Link = field(init=False)

    def __post_init__(self) -> None:
        _ip("netns", "add", self.name)
        try:
            self._inside("link", "set", "lo", "up")
            self.log, self.rest = self._link("l"), self._link("r")
        except BaseException:
            self.close()
            raise

    def _link(self, mark: str) -> Link:
        outer, inner = f"{self.name}{mark}0", f"{self.name}{mark}1"
        # Of 198.18.0.0/15, which is for tests of networks (RFC 2544).
        network = f"198.{random.randrange(18, 20)}.{random.randrange(256)}."
        first = random.randrange(64) * 4
        link = Link(outer, f"{network}{first + 1}", f"{network}{first + 2}")
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
        _ip("addr", "add", f"{link.outside}/30", "dev", outer)
        self._inside("addr", "add", f"{link.inside}/30", "dev", inner)
        self._inside("link", "set", inner, "up")
        link.mend()
        return link

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs another one in here."""
        return ["ip", "netns", "exec", self.name, *command]

    def mend(self) -> None:
        self.log.mend()
        self.rest.mend()

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            _ip("netns", "del", self.name)  # its ends of the links go with it, and so do the others

    def _inside(self, *given: str) -> str:
        return _ip("-n", self.name, *given)


def _new_name() -> str:
    """At most 15 characters with what is put behind it: the kernel's limit for devices."""
    return f"ty{os.getpid() % 10_000}{random.randrange(10_000):04d}"


def _ip(*given: str) -> str:
    done = subprocess.run(["ip", *given], capture_output=True, text=True, timeout=_COMMAND_S, check=True)
    return done.stdout
