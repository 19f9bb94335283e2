"""Sending one message to one channel.

Owns: how a message looks to each kind of channel, how it is signed, which addresses may be reached.
Does not own: what is sent to whom, when it is tried again (flows/deliver.py).

A sender never raises for what the other side does: whatever goes wrong is said in `Sent`, and has an end (time, bytes).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

ANSWER_BYTES_MAX = 4096
"""How much of an answer is read and kept."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message, where the channel can take one."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """`id`: the delivery's, the same at every attempt. `body`: JSON, the same bytes at every attempt. `at_s`: when this
    attempt is made, seconds since 1970."""

    id: str
    kind: str
    summary: str
    body: bytes
    at_s: int
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an attempt. `error`: a stable code, None: the other side has taken it. `is_final`: trying again
    cannot help. `status`: HTTP's, or SMTP's. `retry_after_s`: what the other side asks for."""

    target: str
    request_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    status: int | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    answer: str = ""
    error: str | None = None
    detail: str | None = None
    retry_after_s: int | None = None
    is_final: bool = False
    is_gone: bool = False
    """The endpoint says that it is no more (410)."""


T_contra = TypeVar("T_contra", contravariant=True)


class Sender(Protocol[T_contra]):
    """Sends to targets of one kind."""

    async def send(self, message: Message, target: T_contra) -> Sent: ...

    async def close(self) -> None: ...
