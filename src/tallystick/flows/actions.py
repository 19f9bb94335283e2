"""Corrections and backfills, as the recorder carries them out when it meets them in the log.

An event's content lives in versions; a version is named by a position: that of the recorded event, or of the `replace`
that made it. A correction supersedes the current version and never alters it. What a superseded version contributed is
taken back by the same readings with sign -1, recorded at the moment of the correction.

    retract   no version is current any more
    replace   the next version is current (also after a retract: it restores)
    stage     events of an open backfill are laid aside; nothing counts
    close     what the backfill replaces is retracted, what was laid aside is recorded: all at one moment
    revert    what the backfill recorded is retracted, what it replaced is current again: all at one moment
    discard   what was laid aside is thrown away
    release   events in quarantine of these subjects are the customer's the action names, and count from now on

Every row an action writes bears the action's moment, which nobody sees before the action is done. A repeated attempt
begins by deleting the rows of that moment.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tallystick.catalog.interface import BackfillState, Catalog
from tallystick.flows.attribute import QUARANTINED, Attribution
from tallystick.identity.decide import decide
from tallystick.identity.interface import U32, U64, Identities, IdentityIndex
from tallystick.metering.content import same_content
from tallystick.metering.event import TIMESTAMP
from tallystick.metering.meter import Meter
from tallystick.metering.position import RESTORED_STEP
from tallystick.metering.reading import derive
from tallystick.store.interface import Store

RETRACT, REPLACE, STAGE, CLOSE, REVERT, DISCARD = "retract", "replace", "stage", "close", "revert", "discard"
RELEASE = "release"

RELEASED_REASON = "released from quarantine: the subject belongs to a customer"
AFTERWARDS: Mapping[str, BackfillState] = {CLOSE: "closed", REVERT: "reverted"}
OVER_ALL = frozenset({CLOSE, REVERT, DISCARD})
"""Actions that concern all partitions."""

RETRACTED, REPLACED, RESTORED, UNCHANGED = "retracted", "replaced", "restored", "unchanged"
ALREADY_RETRACTED, NOT_FOUND = "already_retracted", "not_found"

VERSION_COLUMNS = (
    "tenant",
    "source",
    "id",
    "type",
    "subject",
    "time",
    "time_given",
    "received_at",
    "data",
    "attributes",
    "customer",
    "position",
    "recorded_at",
)
_LOW_32 = np.uint64(0xFFFF_FFFF)
_compute: Any = pc  # its functions are made at import and unknown to type checkers


class CorrectionNote(msgspec.Struct, frozen=True):
    """Beside each retract or replace: why, and who."""

    reason: str
    author: str


class Replaced(msgspec.Struct, frozen=True):
    """What a backfill replaces: everything that happened within [from_us, to_us), of a type and customer or of all."""

    from_us: int
    to_us: int
    type: str | None = None
    customer: str | None = None


class BackfillNote(msgspec.Struct, frozen=True):
    """Beside each action of a backfill."""

    backfill: str
    reason: str = ""
    author: str = ""
    replace: Replaced | None = None


class ReleaseNote(msgspec.Struct, frozen=True):
    """Beside each release: whose the subjects (the rows' subjects) are from now on. The log names the customer, and not
    the catalog, so that a repeated attempt releases to the same one."""

    customer: str
    author: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What carrying out an action needs."""

    store: Store
    index: IdentityIndex
    attribution: Attribution
    catalog: Catalog
    meters: Sequence[Meter]
    tenant: str
    moment_us: int
    after: int  # everything up to here is recorded
    token: str


@dataclass(slots=True)
class Effects:
    """What an action has done: how the recorder's totals change, and a status for each of its rows."""

    events: int = 0
    duplicates: int = 0
    conflicts: int = 0
    replaced: int = 0
    retracted: int = 0
    readings: Counter[int] = field(default_factory=Counter[int])
    statuses: list[str] = field(default_factory=list[str])
    added: list[tuple[Identities, U32, U64]] = field(default_factory=list[tuple[Identities, U32, U64]])
    """New identities, for the index once the action is done."""


def carry_out(action: str, note: bytes, batch: pa.Table, positions: U64, parts: Parts) -> Effects:
    """Do one action: `batch` has EVENT_SCHEMA, one row an item, at these positions."""
    if action in (RETRACT, REPLACE):
        return _correct(action, msgspec.json.decode(note, type=CorrectionNote), batch, positions, parts)
    if action == RELEASE:
        return _release(msgspec.json.decode(note, type=ReleaseNote), batch["subject"], parts)
    told = msgspec.json.decode(note, type=BackfillNote)
    if action == STAGE:
        return _stage(told, batch, positions, parts)
    effects = Effects()
    # Asked for twice: what closing would replace now are its own events.
    if action != CLOSE or not is_carried_out(note, parts.tenant, parts.store):
        effects = carry_out_share(action, note, int(positions[0]), parts)
        if action in AFTERWARDS:
            parts.catalog.advance_backfill(
                parts.tenant,
                told.backfill,
                to_state=AFTERWARDS[action],
                counts=counts_of(effects),
                now_us=parts.moment_us,
            )
    effects.statuses = [action] * len(positions)
    return effects


def carry_out_share(action: str, note: bytes, position: int, parts: Parts) -> Effects:
    """What an action over all partitions does in the one whose store this is. `position`: of the retractions."""
    told = msgspec.json.decode(note, type=BackfillNote)
    if action == CLOSE:
        return _close(told, position, parts)
    if action == REVERT:
        return _revert(told, position, parts)
    if action == DISCARD:
        parts.store.delete_staged(parts.tenant, told.backfill)
        return Effects()
    raise ValueError(f"The log holds the action {action!r}, which this version does not know.")


def backfill_of(note: bytes) -> str:
    """The key of the backfill that an action is a step of."""
    return msgspec.json.decode(note, type=BackfillNote).backfill


# -- single corrections ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Version:
    """Where a current version is: row `row` of `table`, which has VERSION_COLUMNS."""

    table: pa.Table
    row: int

    def value(self, name: str) -> Any:
        return self.table[name][self.row].as_py()

    @property
    def position(self) -> int:
        return self.value("position")


def _correct(action: str, note: CorrectionNote, batch: pa.Table, positions: U64, parts: Parts) -> Effects:
    effects = Effects()
    originals: list[int] = parts.index.find(identities_of_batch(batch)).position.tolist()
    current, last = _versions_known([original for original in originals if original], parts.store)
    offered = _as_versions(batch, positions, parts)
    if action == REPLACE:
        offered = _with_times_kept(offered, originals, last)
    rows: list[tuple[int, int, int]] = []  # row of the batch, original, superseded
    superseded: list[_Version] = []
    made: list[int] = []
    for row, original in enumerate(originals):
        before = current.get(original)
        if original == 0 or original not in current:  # never recorded, or deleted by retention
            effects.statuses.append(NOT_FOUND)
        elif action == RETRACT and before is None:
            effects.statuses.append(ALREADY_RETRACTED)
        elif action == REPLACE and before is not None and _same_version(before, _Version(offered, row)):
            effects.statuses.append(UNCHANGED)
        else:
            if before is not None:
                superseded.append(before)
            rows.append((row, original, before.position if before is not None else 0))
            if action == RETRACT:
                effects.statuses.append(RETRACTED)
                current[original] = None
            else:
                effects.statuses.append(REPLACED if before is not None else RESTORED)
                current[original] = _Version(offered, row)
                made.append(row)
    if not rows:
        return effects
    chosen = offered.take(pa.array([row for row, _, _ in rows], pa.int64()))
    parts.store.insert_corrections(
        _corrections(
            chosen,
            action=action,
            original=[original for _, original, _ in rows],
            superseded=[position for _, _, position in rows],
            reason=note.reason,
            author=note.author,
            backfill="",
        ),
        token=parts.token,
    )
    taken_back = [version.table.slice(version.row, 1) for version in superseded]
    if taken_back:
        _insert_readings(_united(taken_back), -1, "taken-back", parts, effects)
    if made:
        _insert_readings(offered.take(pa.array(made, pa.int64())), 1, "made", parts, effects)
    effects.retracted = effects.statuses.count(RETRACTED)
    effects.replaced = len(made)
    return effects


def _same_version(one: _Version, other: _Version) -> bool:
    """Time belongs to it here: to correct the time of an event is to correct it."""
    names = ("type", "subject", "data")
    return one.value("time") == other.value("time") and same_content(
        *(one.value(name) for name in names), *(other.value(name) for name in names)
    )


def _with_times_kept(offered: pa.Table, originals: Sequence[int], last: dict[int, _Version]) -> pa.Table:
    """A replacement that was sent without a time has that of the version before it, also where that is retracted: who
    corrects a quantity does not mean to move it to today. Versions are the facts' alone, so a repeated attempt finds the
    same time."""
    times_us: list[int] = offered["time"].cast(pa.int64()).to_pylist()
    given: list[bool] = offered["time_given"].to_pylist()
    known: dict[int, tuple[int, bool]] = {}
    for row, original in enumerate(originals):
        if original not in last:
            continue
        if not given[row]:
            if original not in known:
                version = last[original]
                time_us = version.table["time"][version.row].cast(pa.int64()).as_py()
                known[original] = time_us, version.value("time_given")
            times_us[row], given[row] = known[original]
        known[original] = times_us[row], given[row]
    time = pa.array(times_us, pa.int64()).cast(TIMESTAMP)
    return _with(offered, time=time, time_given=pa.array(given, pa.bool_()))


def _versions_known(
    originals: Sequence[int], store: Store
) -> tuple[dict[int, _Version | None], dict[int, _Version]]:
    """By original: its current version (None when it is retracted), and the last one there was. Those that retention has
    deleted are absent."""
    if not originals:
        return {}, {}
    versions = store.versions_of(sorted(set(originals)))
    superseded_at = versions["superseded_at"].to_pylist()
    current: dict[int, _Version | None] = {}
    last: dict[int, _Version] = {}
    for row, original in enumerate(versions["original"].to_pylist()):
        last[original] = _Version(versions, row)
        current[original] = last[original] if superseded_at[row] is None else None
    return current, last


# -- backfills -------------------------------------------------------------------------------------------------------
def _stage(note: BackfillNote, batch: pa.Table, positions: U64, parts: Parts) -> Effects:
    staged = _with(
        batch,
        customer="",  # whose it is is decided when it begins to count
        position=positions,
        recorded_at=_moments(batch.num_rows, parts.moment_us),
        backfill=note.backfill,
    )
    parts.store.insert_staged(staged, token=parts.token)
    return Effects(statuses=["staged"] * batch.num_rows)


def _close(note: BackfillNote, position: int, parts: Parts) -> Effects:
    effects = Effects()
    replaced = (
        _retract_range(note, position, parts, effects) if note.replace is not None else np.empty(0, np.uint64)
    )
    for number, block in enumerate(parts.store.staged(parts.tenant, note.backfill)):
        staged = pa.Table.from_batches([block])
        _record_staged(note, parts, effects, staged=staged, replaced=replaced, number=number)
    return effects


def _retract_range(note: BackfillNote, position: int, parts: Parts, effects: Effects) -> U64:
    """Retract all current versions within what the backfill replaces; answers their originals, sorted."""
    scope = note.replace
    assert scope is not None
    originals: list[U64] = []
    blocks = parts.store.events_of(
        parts.tenant,
        None if scope.type is None else [scope.type],
        from_us=scope.from_us,
        to_us=scope.to_us,
        customers=None if scope.customer is None else [scope.customer],
        as_of_us=parts.moment_us - 1,
    )
    for number, block in enumerate(blocks):
        versions = pa.Table.from_batches([block])
        _retract(versions, note, parts, effects, position=position, label=f"range:{number}")
        originals.append(np.asarray(versions["original"].combine_chunks(), dtype=np.uint64))
    return np.unique(np.concatenate(originals)) if originals else np.empty(0, np.uint64)


def _retract(
    versions: pa.Table, note: BackfillNote, parts: Parts, effects: Effects, *, position: int, label: str
) -> None:
    rows = versions.num_rows
    empty = _with(
        versions.select(["tenant", "source", "id", "original"]),
        position=np.full(rows, position, np.uint64),
        recorded_at=_moments(rows, parts.moment_us),
    )
    parts.store.insert_corrections(
        _corrections(
            _without_content(empty),
            action=RETRACT,
            original=versions["original"].to_pylist(),
            superseded=versions["position"].to_pylist(),
            reason=note.reason,
            author=note.author,
            backfill=note.backfill,
        ),
        token=f"{parts.token}:{label}",
    )
    _insert_readings(versions, -1, label, parts, effects)
    effects.retracted += rows


def _record_staged(
    note: BackfillNote, parts: Parts, effects: Effects, *, staged: pa.Table, replaced: U64, number: int
) -> None:
    identities = identities_of_batch(staged)
    content = np.asarray(staged["content"].combine_chunks(), dtype=np.uint64)
    positions = np.asarray(staged["position"].combine_chunks(), dtype=np.uint64)
    decision = decide(identities, content, positions, parts.index.find(identities))
    rows = staged.num_rows
    versions = _with(
        staged,
        customer=parts.attribution.customers(staged["tenant"], staged["subject"], now_us=parts.moment_us),
        recorded_at=_moments(rows, parts.moment_us),
    ).select(VERSION_COLUMNS)
    new = np.flatnonzero(decision.new)
    repeats = np.flatnonzero(~decision.new)
    restoring = _first_of_each(
        repeats[np.isin(decision.original[repeats], replaced)], decision.original, parts
    )
    others = np.setdiff1d(repeats, restoring, assume_unique=True)
    alike = np.array(
        [
            bool(decision.alike[row])
            or _same_as_recorded(staged, int(row), int(decision.original[row]), parts)
            for row in others
        ],
        dtype=np.bool_,
    )
    token = f"{parts.token}:{number}"
    if len(new):
        recorded = versions.take(pa.array(new))
        parts.store.insert_events(_with(recorded, backfill=note.backfill), token=token)
        added = (
            Identities(identities.high[new], identities.low[new]),
            (content[new] & _LOW_32).astype(np.uint32),
            positions[new],
        )
        # Later blocks must know them. Should the action fail, an index that holds them under their own positions
        # decides the same way. So they are not for `added`.
        parts.index.add(*added, through=parts.after)
        _insert_readings(recorded, 1, f"new:{number}", parts, effects)
        effects.events += len(new)
    if len(restoring):
        chosen = versions.take(pa.array(restoring))
        parts.store.insert_corrections(
            _corrections(
                chosen,
                action=REPLACE,
                original=decision.original[restoring].tolist(),
                superseded=[0] * len(restoring),
                reason=note.reason,
                author=note.author,
                backfill=note.backfill,
            ),
            token=token,
        )
        _insert_readings(chosen, 1, f"replaced:{number}", parts, effects)
        effects.replaced += len(restoring)
    for kind, insert in ((True, parts.store.insert_duplicates), (False, parts.store.insert_conflicts)):
        chosen_rows = others[alike == kind]
        if len(chosen_rows):
            insert(
                _with(versions.take(pa.array(chosen_rows)), original=decision.original[chosen_rows]),
                token=token,
            )
    effects.duplicates += int(np.count_nonzero(alike))
    effects.conflicts += int(np.count_nonzero(~alike))


def _first_of_each(rows: Any, original: U64, parts: Parts) -> Any:
    """Of rows that replace the same event only the first does, and only when no earlier block has done so."""
    _, first = np.unique(original[rows], return_index=True)
    rows = np.sort(rows[first])
    current, _ = _versions_known(original[rows].tolist(), parts.store)
    return np.array([row for row in rows.tolist() if current.get(int(original[row])) is None], dtype=np.intp)


def _same_as_recorded(staged: pa.Table, row: int, original: int, parts: Parts) -> bool:
    found = parts.store.events_at([original])
    names = ("type", "subject", "data")
    if found.num_rows == 0:  # the original is of this very backfill
        at = np.flatnonzero(np.asarray(staged["position"].combine_chunks()) == original)
        if len(at) == 0:
            return False
        found = staged.slice(int(at[0]), 1)
    return same_content(
        *(found[name][0].as_py() for name in names), *(staged[name][row].as_py() for name in names)
    )


def is_carried_out(note: bytes, tenant: str, store: Store) -> bool:
    """Whether there are facts of this backfill (an attempt under way has deleted its own)."""
    backfill = backfill_of(note)
    made = store.events_of(tenant, None, backfill=backfill)
    corrected = store.corrections_made(tenant, backfill)
    return any(block.num_rows for block in made) or any(block.num_rows for block in corrected)


def _revert(note: BackfillNote, position: int, parts: Parts) -> Effects:
    """First everything the backfill made and that still counts is retracted; then every event it had superseded and of
    which nothing counts now gets the superseded content back. What was corrected since stays corrected."""
    effects = Effects()
    before_us = parts.moment_us - 1
    made = parts.store.events_of(parts.tenant, None, backfill=note.backfill, recorded_by_us=before_us)
    for number, block in enumerate(made):
        versions = pa.Table.from_batches([block])
        counting = versions.filter(_compute.is_null(versions["superseded_at"]))
        if counting.num_rows:
            _retract(counting, note, parts, effects, position=position, label=f"made:{number}")
    corrections = parts.store.corrections_made(parts.tenant, note.backfill, recorded_by_us=before_us)
    for number, block in enumerate(corrections):
        ended = block.filter(_compute.greater(block["superseded"], 0))
        if ended.num_rows:
            originals: list[int] = ended["original"].to_pylist()
            ends = np.asarray(ended["superseded"])
            _restore(note, parts, effects, superseded=ends, originals=originals, number=number)
    return effects


def _restore(
    note: BackfillNote, parts: Parts, effects: Effects, *, superseded: U64, originals: list[int], number: int
) -> None:
    versions = parts.store.versions_of(sorted(set(originals)))
    counting = set(versions.filter(_compute.is_null(versions["superseded_at"]))["original"].to_pylist())
    positions = np.asarray(versions["position"].combine_chunks(), dtype=np.uint64)
    of = versions["original"].to_pylist()
    rows = [row for row in np.flatnonzero(np.isin(positions, superseded)).tolist() if of[row] not in counting]
    if not rows:
        return
    chosen = versions.take(pa.array(rows, pa.int64()))
    chosen = _with(
        chosen,
        position=positions[rows] + np.uint64(RESTORED_STEP),
        recorded_at=_moments(len(rows), parts.moment_us),
    )
    corrections = _corrections(
        chosen,
        action=REPLACE,
        original=[of[row] for row in rows],
        superseded=[0] * len(rows),
        reason=note.reason,
        author=note.author,
        backfill=note.backfill,
    )
    parts.store.insert_corrections(corrections, token=f"{parts.token}:restored:{number}")
    _insert_readings(chosen, 1, f"restored:{number}", parts, effects)
    effects.replaced += len(rows)


# -- quarantine -------------------------------------------------------------------------------------------------------
def _release(note: ReleaseNote, subjects: pa.ChunkedArray, parts: Parts) -> Effects:
    """Every current version of nobody that names one of these subjects is superseded by the same content as the
    customer's. Released before: nothing is found."""
    effects = Effects(statuses=["released"] * len(subjects))
    wanted = pa.array(sorted(set(subjects.to_pylist())), pa.string())
    blocks = parts.store.events_of(parts.tenant, None, customers=[QUARANTINED], as_of_us=parts.moment_us - 1)
    for number, block in enumerate(blocks):
        versions = pa.Table.from_batches([block])
        mask = _compute.is_in(versions["subject"].cast(pa.string()), value_set=wanted)
        chosen = versions.filter(mask)
        if chosen.num_rows == 0:
            continue
        positions = np.asarray(chosen["position"].combine_chunks(), dtype=np.uint64)
        made = _with(
            chosen,
            customer=note.customer,
            position=positions + np.uint64(RESTORED_STEP),
            recorded_at=_moments(chosen.num_rows, parts.moment_us),
        )
        corrections = _corrections(
            made,
            action=REPLACE,
            original=chosen["original"].to_pylist(),
            superseded=positions.tolist(),
            reason=RELEASED_REASON,
            author=note.author,
            backfill="",
        )
        parts.store.insert_corrections(corrections, token=f"{parts.token}:released:{number}")
        _insert_readings(made, 1, f"released:{number}", parts, effects)
        effects.replaced += chosen.num_rows
    return effects


# -- shared ----------------------------------------------------------------------------------------------------------
def identities_of_batch(batch: pa.Table) -> Identities:
    """The identities of rows of EVENT_SCHEMA."""
    return identities_from(_bytes_of(batch["identity"]))


def identities_from(digests: bytes) -> Identities:
    """Identities of n 16-byte digests, one after the other."""
    halves = np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return Identities(np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1]))


def _bytes_of(column: pa.ChunkedArray) -> bytes:
    """The bytes of a fixed-size binary column, one value after the other."""
    pieces: list[bytes] = []
    for chunk in column.chunks:
        width = chunk.type.byte_width
        pieces.append(chunk.buffers()[1].slice(chunk.offset * width, len(chunk) * width).to_pybytes())
    return b"".join(pieces)


def _as_versions(batch: pa.Table, positions: U64, parts: Parts) -> pa.Table:
    """Rows of EVENT_SCHEMA as versions made at this moment. Retracted rows have no subject, and so no customer."""
    rows = batch.num_rows
    subject = batch["subject"]
    owners: Any = pa.array([""] * rows, pa.string())
    named = _compute.not_equal(subject, "").combine_chunks()
    if _compute.any(named).as_py():
        own = parts.attribution.customers(
            _compute.filter(batch["tenant"], named), _compute.filter(subject, named), now_us=parts.moment_us
        )
        owners = _compute.replace_with_mask(owners, named, own.cast(pa.string()))
    versions = _with(
        batch,
        customer=owners,
        position=positions,
        recorded_at=_moments(rows, parts.moment_us),
    )
    return versions.select(VERSION_COLUMNS)


def _corrections(
    versions: pa.Table,
    *,
    action: str,
    original: Sequence[int],
    superseded: Sequence[int],
    reason: str,
    author: str,
    backfill: str,
) -> pa.Table:
    table = versions.select(VERSION_COLUMNS)
    if action == RETRACT:
        table = _without_content(table)
    return _with(
        table,
        original=np.array(original, np.uint64),
        superseded=np.array(superseded, np.uint64),
        action=action,
        reason=reason,
        author=author,
        backfill=backfill,
    )


def _without_content(table: pa.Table) -> pa.Table:
    """The same rows with the content of a retract: none."""
    rows = table.num_rows
    kept = table.select(
        [name for name in ("tenant", "source", "id", "position", "recorded_at") if name in table.column_names]
    )
    return _with(
        kept,
        type="",
        subject="",
        customer="",
        time=_moments(rows, 0),
        time_given=np.zeros(rows, np.bool_),
        received_at=kept["recorded_at"],
        data=pa.array([b""] * rows, pa.binary()),
        attributes=pa.array([b""] * rows, pa.binary()),
    ).select(VERSION_COLUMNS)


def _insert_readings(versions: pa.Table, sign: int, label: str, parts: Parts, effects: Effects) -> None:
    """What these versions contribute, or (sign -1) do not contribute any more, as of the action's moment."""
    if not parts.meters or versions.num_rows == 0:
        return
    rows = versions.num_rows
    now = _with(
        versions.select(VERSION_COLUMNS).drop_columns(["recorded_at"]),
        recorded_at=_moments(rows, parts.moment_us),
    )
    readings = derive(parts.meters, now)
    if readings.num_rows == 0:
        return
    if sign < 0:
        signs = pa.array(np.full(readings.num_rows, sign, np.int8))
        readings = readings.set_column(readings.schema.get_field_index("sign"), "sign", signs)
    parts.store.insert_readings(readings, token=f"{parts.token}:{label}:{sign}")
    counted = _compute.value_counts(readings["meter"])
    effects.readings.update(
        dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    )


def counts_of(effects: Effects) -> dict[str, int]:
    return {
        "recorded": effects.events,
        "duplicates": effects.duplicates,
        "conflicts": effects.conflicts,
        "replaced": effects.replaced,
        "retracted": effects.retracted,
    }


def _moments(rows: int, moment_us: int) -> pa.Array:
    return pa.array(np.full(rows, moment_us, np.int64)).cast(TIMESTAMP)


def _united(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of tables whose strings may be encoded in different ways."""
    plain = [
        pa.table(
            {
                name: table[name].cast(table[name].type.value_type)
                if pa.types.is_dictionary(table[name].type)
                else table[name]
                for name in VERSION_COLUMNS
            }
        )
        for table in tables
    ]
    return pa.concat_tables(plain, promote_options="permissive")


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    """The table with these columns added or replaced; a string stands for a column full of it."""
    for name, given in columns.items():
        value = given
        if isinstance(value, str):
            codes = pa.array(np.zeros(table.num_rows, np.int32))
            value = pa.DictionaryArray.from_arrays(codes, pa.array([value], pa.string()))
        elif isinstance(value, np.ndarray):
            value = pa.array(value)
        at = table.schema.get_field_index(name)
        table = table.append_column(name, value) if at < 0 else table.set_column(at, name, value)
    return table
