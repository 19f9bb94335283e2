"""What the recorder writes down before and after each batch: its place in the log, and which readings are complete.

The journal is the recorder's only memory besides the facts. It is small, replaced as a whole, and synced.
"""

import structlog
from msgspec import Struct, field, json
from msgspec.structs import replace

from tallystick.log.checkpoint import Checkpoint
from tallystick.store.interface import Store

_logger = structlog.get_logger("journal")


class Intent(Struct, frozen=True):
    """A batch about to be recorded. Until `done`, a restart repeats exactly this: same positions, moment and meters."""

    after: int
    through: int
    recorded_at_us: int
    meters: tuple[int, ...]
    barrier: str = ""  # no batch, but the share in an action of all partitions; `through` is `after`

    @property
    def token(self) -> str:
        """Deduplication token of the batch's inserts: its positions."""
        return f"{self.after}-{self.through}"


class Coverage(Struct, frozen=True):
    """Which readings of one meter version are in the store.

    The recorder derives what is recorded, or taken back, after the moment `from_us`; what was there at that moment is
    built in the background, and all of it is there once `built`. `until_us` is set when the version left service:
    nothing recorded after that moment has readings.
    """

    from_us: int
    built: bool
    rows: int = 0  # how many there must be (rows of a build under way not counted)
    until_us: int | None = None

    def complete_as_of(self, moment_us: int) -> bool:
        return self.built and (self.until_us is None or moment_us <= self.until_us)


class Forgetting(Struct, frozen=True):
    """A step of retention about to be done: the positions its events lie between, both inclusive (flows/retention.py).
    Before `counted` nothing is deleted, and the step can be undone; after it, it is finished by doing it again."""

    first: int
    last: int
    counted: bool = False


class Done(Struct, frozen=True):
    """The share in an action of all partitions that was done last: the barrier's name, and what it counts."""

    barrier: str
    counts: dict[str, int]


class State(Struct, frozen=True):
    """Everything the recorder must remember."""

    recorded: int = 0  # every event up to this position is recorded
    recorded_at_us: int = 0  # the last published moment
    intent: Intent | None = None
    events: int = 0  # since the beginning, those that retention has deleted included; so the next two
    duplicates: int = 0
    conflicts: int = 0
    forgotten: int = 0  # of the events: deleted by retention; so the next two
    forgotten_duplicates: int = 0
    forgotten_conflicts: int = 0
    forgetting: Forgetting | None = None
    generation: int = 0  # counts builds begun anew; part of the tokens of readings
    coverage: dict[int, Coverage] = field(default_factory=dict[int, Coverage])  # by meter id
    done: Done | None = None
    copied: int = 0  # identities recorded up to this position are in the index's copy (flows/index_copy.py)
    copied_rows: int = 0  # so many rows

    @property
    def readings(self) -> int:
        """Rows there must be in `readings`."""
        return sum(coverage.rows for coverage in self.coverage.values())


class Journal:
    """Loads and saves State by a Checkpoint."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def adopt(self, store: Store, *, now_us: int) -> State:
        """The state to begin with. Without a journal (a new installation, or one that lost it) the facts in the store
        say how far recording got; readings are then built anew.

        Raises Unavailable when there is no journal and the store does not answer: to begin at 1 over facts that are
        there would count them twice.
        """
        raw = self._checkpoint.load()
        if raw is not None:
            return json.decode(raw, type=State)
        store.migrate()
        reached = store.reached()
        state = State()
        if reached.position:
            # The generation: tokens of an unknown past must not come back.
            state = _by_the_facts(
                store, reached.position, reached.recorded_at_us, generation=now_us // 1_000_000
            )
        self.save(state)
        return state

    def give_up_lost_batch(self, store: Store, *, log_end: int) -> bool:
        """Give up the batch that was under way when the log no longer holds all of it (it was lost, or cut short, while
        the process was down). True when there was such a batch; the log must then be told anew which positions were
        given (`SqliteLog.open(positions_after=...)`), for new events must not get those of the batch's facts.

        If facts of the batch are in the store, all its new events are (they go in as one, and first): it counts as
        recorded; repeats that were not written yet are not listed. If none are, nothing of it happened, and what the
        log still holds is recorded from there.

        Raises Unavailable when there is such a batch and the store does not answer.
        """
        state = self.load()
        intent = state.intent
        if intent is None or log_end >= intent.through:
            return False
        store.migrate()
        reached = store.reached()
        if reached.position > intent.after:
            state = _by_the_facts(
                store, intent.through, intent.recorded_at_us, generation=state.generation + 1
            )
        else:
            state = replace(state, intent=None)
        self.save(state)
        _logger.error("batch_lost_by_the_log", after=intent.after, through=intent.through, log_end=log_end)
        return True

    def load(self) -> State:
        """What was last saved. `adopt` has seen to it that there is something."""
        raw = self._checkpoint.load()
        return State() if raw is None else json.decode(raw, type=State)

    def save(self, state: State) -> None:
        self._checkpoint.save(json.encode(state))

    def close(self) -> None:
        self._checkpoint.close()


def _by_the_facts(store: Store, recorded: int, recorded_at_us: int, *, generation: int) -> State:
    """A state that has only the facts to go by. Readings are built anew."""
    counts = store.counts()
    store.delete_readings(None)
    return State(
        recorded=recorded,
        recorded_at_us=recorded_at_us,
        events=counts["events"] + counts["forgotten"],
        forgotten=counts["forgotten"],
        duplicates=counts["duplicates"],
        conflicts=counts["conflicts"],
        generation=generation,
    )
