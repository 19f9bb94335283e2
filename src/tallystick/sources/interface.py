"""What a source is given, and what is asked of it.

Owns: how records of each kind of place are read, and which of them are behind it (as progress, which it gives to keep).
Does not own: durability, identity, back-pressure, dead letters, when it runs and where (flows/sources).

**The rule.** A source may let go of a record (commit an offset, acknowledge a message, save progress behind it) only when
`accept`, `take` or `reject` has returned for it. Then the event is in the durable log, or the record among the dead
letters. Whatever was not let go of comes again after a crash, under the same identity, and is one event.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol

from tallystick.errors import TallystickError
from tallystick.sources.source import Source


class SourceStoppedError(Exception):
    """The source is to end: raised by whatever waits. Nothing is wrong."""


class SourceFaultError(TallystickError):
    """A source cannot go on at the moment. It is begun again after a while."""

    status = 503
    default_code = "source_fault"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it came in. `where` names it within its source, for ever: `topic/3/4711`. An event of it that says no
    id has `KEY:WHERE` as its id, so that the same record is the same event however often it comes."""

    raw: bytes
    where: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event was not taken: the codes of POST /v1/events."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reject:
    """A record for the dead letters. `form`: `record`, as it came in; `event`, the event that was made of it.
    `identity`: the id its event is given when it is retried and says none; "": `KEY:WHERE`."""

    raw: bytes
    where: str
    code: str
    detail: str
    form: Literal["record", "event"] = "record"
    identity: str = ""


def digest_of(where: str, raw: bytes) -> str:
    """By which a rejected record is known again."""
    return sha256(where.encode() + b"\0" + raw).hexdigest()


class Feed(Protocol):
    """What a runner is given. Every method may raise SourceStoppedError, leases.LeaseLostError (another process runs the
    source now) and what a part that is down raises; a runner lets all of it through, and is begun again from its
    progress. One event loop, one task at a time, unless it is said otherwise."""

    @property
    def tenant(self) -> str: ...

    @property
    def source(self) -> Source:
        """Its settings have secrets in the place of references: never log them, never put them into an error."""
        ...

    @property
    def number(self) -> int:
        """Tells this source from all others, for ever: for names outside (consumer groups, durables)."""
        ...

    async def take(self, records: Sequence[Record]) -> list[Refusal | None]:
        """Records through the source's mapping into the durable log: as `POST /v1/events` and its 202. Those that are no
        events become dead letters. When this returns all of them may be let go of. What became of each: None, its events
        are in the log. Waits while too much is waiting (back-pressure). Several tasks may call it at once."""
        ...

    async def accept(self, events: Sequence[str]) -> list[Refusal | None]:
        """The same of events that are made already (JSON texts without line breaks). Refused ones are the caller's to
        `reject`."""
        ...

    async def correct(
        self, *, reason: str, retract: Sequence[tuple[str, str]], replace: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """As `POST /v1/events/corrections`: a status for each of `retract` (source, id) and of `replace` (JSON texts).
        Returns when they count."""
        ...

    async def reject(self, rejects: Sequence[Reject]) -> None:
        """Keep records as dead letters. The same record at the same place is kept once. Waits while there are too many."""
        ...

    async def progress(self, prefix: str = "") -> dict[str, bytes]:
        """What was saved, by part, in the order of parts."""
        ...

    async def save(self, states: Mapping[str, bytes | None], *, taken: int = 0) -> None:
        """Keep opaque states of at most 4 MiB by part, all at once; None forgets. Parts that begin with "." are not shown.
        `taken`: events accepted since, for the count (`take` counts for itself)."""
        ...

    async def retaken(self, place: str) -> list[tuple[str, str, str]]:
        """The place (an object; its records are at PLACE#…) is read from its beginning, in another version: what is open of
        it among the dead letters is forgotten. Of those that were retried the `digest_of`, and source and id of the event
        that each has become."""
        ...

    def observe(self, *, lag: int | None) -> None:
        """How many records are known of and not taken; None: not known."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Raises SourceStoppedError as soon as the source is to end."""
        ...


class Runner(Protocol):
    """One source at work."""

    async def run(self) -> None:
        """Take until the feed says to stop (SourceStoppedError, which may be let through). What is raised otherwise is the
        source's fault until it is begun again; SourceFaultError says it in words for users. Must let go of everything it
        has opened."""
        ...

    def stop(self) -> None:
        """Called from the loop when the source is to end; `run` then returns soon."""
        ...


Factory = Callable[[Source, Feed], Runner]
"""Makes a runner. Opens nothing."""
