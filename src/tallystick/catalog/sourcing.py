"""What of sources is kept: definitions, how each stands, how far it is, and what it could not take. A protocol of its own,
apart from the catalog's. The conventions are those of interface.py.

What a definition means is the room sources' affair: here it is an object that is kept.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tallystick.catalog.interface import Actor, Page

SOURCES_PER_TENANT_MAX = 1000
PART_CHARACTERS_MAX = 2048
STATE_BYTES_MAX = 4 * 1024 * 1024
"""Of one part of a source's progress."""
RAW_BYTES_MAX = 1024 * 1024
"""Of a dead letter; what is longer is cut off, and cannot be retried without being edited."""
LETTERS_AT_ONCE_MAX = 1000

LetterStatus = Literal["open", "retried", "discarded"]
LETTER_STATUSES: tuple[LetterStatus, ...] = ("open", "retried", "discarded")
LetterForm = Literal["record", "event"]


@dataclass(frozen=True, slots=True)
class KeptSource:
    """`number` tells it from others for ever. `version` grows with every change. `content`: the definition, without
    `paused`."""

    number: int
    tenant: str
    key: str
    content: Mapping[str, Any]
    paused: bool
    version: int
    created_at_us: int
    changed_at_us: int
    archived_at_us: int | None = None

    @property
    def runs(self) -> bool:
        return not self.paused and self.archived_at_us is None


@dataclass(frozen=True, slots=True)
class SourceState:
    """How a source stands, as the process that runs it has last said. `taken`: events in the log. `rejected`: records
    that became dead letters. `lag`: records it knows of and has not taken; None: not known. `fault`: why it cannot go on
    at the moment (it tries again)."""

    status: str = "starting"
    fault: str | None = None
    lag: int | None = None
    taken: int = 0
    rejected: int = 0
    last_error: str | None = None
    last_error_at_us: int | None = None
    taken_at_us: int | None = None
    changed_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """What to set, and what to add."""

    status: str
    fault: str | None
    lag: int | None
    last_error: str | None = None
    """None: as it was."""
    taken: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class NewLetter:
    """What could not be taken. `place`: where it was, which names it within its source. `form`: a record as it came in, or
    the event that was made of it. `identity`: the id its event has when it says none."""

    place: str
    form: LetterForm
    raw: bytes
    code: str
    detail: str
    identity: str
    digest: str
    """By which the same letter is known again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A letter that is kept. `number` names it."""

    number: int
    tenant: str
    source_number: int
    source: str
    place: str
    form: LetterForm
    raw: bytes
    truncated: bool
    edited: bool
    code: str
    detail: str
    identity: str
    status: LetterStatus
    attempts: int
    created_at_us: int
    changed_at_us: int
    event_source: str | None = None
    event_id: str | None = None
    """Identity of the event it has become."""


@dataclass(frozen=True, slots=True)
class LetterSearch:
    """Which letters; None: any."""

    source: str | None = None
    status: LetterStatus | None = None
    code: str | None = None


class SourceCatalog(Protocol):
    """See above. `lease`: (name, epoch) under which a source runs; what it writes down under a lease that has gone to
    another is refused with leases.LeaseLostError, and nothing is written."""

    def create_source(
        self, tenant: str, key: str, content: Mapping[str, Any], *, paused: bool, actor: Actor, now_us: int
    ) -> KeptSource:
        """Raises Conflict (source_exists, too_many_sources)."""
        ...

    def change_source(
        self,
        tenant: str,
        key: str,
        content: Mapping[str, Any] | None = None,
        *,
        paused: bool | None = None,
        expected: Callable[[KeptSource], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> KeptSource:
        """Set its definition, whether it is paused, or both (None: as it is). Content given to an archived one restores it.
        `expected` is asked within the transaction. Raises NotFound (source_not_found), Conflict (source_archived)."""
        ...

    def archive_source(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[KeptSource], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> KeptSource:
        """It takes nothing any more; how far it was stays. Raises NotFound (source_not_found)."""
        ...

    def source(self, tenant: str, key: str) -> KeptSource:
        """Raises NotFound (source_not_found)."""
        ...

    def sources(
        self, tenant: str, *, archived: bool = False, cursor: str | None = None, limit: int = 100
    ) -> Page[KeptSource]:
        """By key."""
        ...

    def sources_to_run(self) -> tuple[KeptSource, ...]:
        """Those of all tenants that are neither paused nor archived, and whose tenant is not suspended."""
        ...

    def source_states(self, numbers: Collection[int]) -> dict[int, SourceState]:
        """How these stand; who has never run is absent."""
        ...

    def set_source_state(
        self, number: int, lease: tuple[str, int], change: StateChange, *, now_us: int
    ) -> None: ...

    def source_progress(
        self, number: int, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> dict[str, bytes]:
        """Parts behind `after`, in their order, with their states."""
        ...

    def save_source_progress(
        self,
        number: int,
        lease: tuple[str, int],
        states: Mapping[str, bytes | None],
        *,
        taken: int = 0,
        now_us: int,
    ) -> None:
        """All of it in one transaction; None forgets a part. `taken` is added to the events taken."""
        ...

    def put_dead_letters(
        self,
        number: int,
        lease: tuple[str, int],
        letters: Sequence[NewLetter],
        *,
        open_max: int,
        now_us: int,
    ) -> int:
        """Keep them; how many are new. One of the same place and content that is there already, in whatever status, is the
        same. Raises Conflict (dead_letters_full) when more than `open_max` of the source would be open: then none is
        kept."""
        ...

    def dead_letters(
        self, tenant: str, search: LetterSearch, *, cursor: str | None = None, limit: int = 100
    ) -> Page[DeadLetter]:
        """The oldest first."""
        ...

    def dead_letter(self, tenant: str, number: int) -> DeadLetter:
        """Raises NotFound (dead_letter_not_found)."""
        ...

    def edit_dead_letter(
        self,
        tenant: str,
        number: int,
        raw: bytes,
        *,
        expected: Callable[[DeadLetter], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> DeadLetter:
        """Raises NotFound (dead_letter_not_found), Conflict (dead_letter_closed)."""
        ...

    def note_retried(
        self,
        tenant: str,
        number: int,
        *,
        event: tuple[str, str] | None,
        code: str = "",
        detail: str = "",
        now_us: int,
    ) -> DeadLetter:
        """What came of a retry: the identity of the event it has become, or why not."""
        ...

    def discard_dead_letters(
        self, tenant: str, numbers: Collection[int], *, actor: Actor, now_us: int
    ) -> int:
        """Close those that are open; how many they were."""
        ...

    def close_letters_of(self, number: int, lease: tuple[str, int], place: str) -> list[tuple[str, str, str]]:
        """The place (an object) is read anew: what is open of it is forgotten. Of its letters that were retried the digest,
        and source and id of the event that each has become."""
        ...

    def open_letters(self, numbers: Collection[int]) -> dict[int, int]:
        """How many are open, by source."""
        ...
