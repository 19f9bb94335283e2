"""Corrections and backfills, as they are asked for: into the log as actions, and an answer once they count.

What they do is in flows/actions.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from tallystick.catalog.interface import Actor, Backfill, BackfillRange, BackfillState
from tallystick.errors import Conflict, TimedOut
from tallystick.flows import actions
from tallystick.flows.actions import BackfillNote, CorrectionNote, Replaced
from tallystick.flows.bare import bare_rows
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions, in_store
from tallystick.metering.event import EventColumns
from tallystick.metering.position import Positions, Vector, united, vector_of

_OF_ALL = bytes(16)
"""Identity of actions over all partitions: it belongs to the first one, however many there are."""

_AUDITED_MAX = 10
"""Events of a correction that its audit row names."""


@dataclass(frozen=True, slots=True)
class CorrectionResult:
    """`statuses`: one for each retracted identity, then one for each replacing event (see flows/actions.py)."""

    position: Vector
    statuses: list[str]


async def correct(
    system: System,
    tenant: str,
    *,
    reason: str,
    actor: Actor,
    retract: Sequence[tuple[str, str]],
    replacements: EventColumns | None,
) -> CorrectionResult:
    """Retract events by (source, id), and replace events that are recorded by these with the same identities.

    Answers when the corrections count. Raises TimedOut when they are not recorded in time: they are in the log then,
    and will count; to ask for them again is safe.
    """
    note = msgspec.json.encode(CorrectionNote(reason=reason, author=actor.name))
    asked = {
        "reason": reason,
        "retract": len(retract),
        "replace": 0 if replacements is None else len(replacements),
        "first": [f"{source} {event_id}"[:200] for source, event_id in retract[:_AUDITED_MAX]]
        or ([] if replacements is None else replacements.id[:_AUDITED_MAX]),
    }
    # Before it is done: a change that nobody can be asked about must not happen.
    await in_questions(
        system,
        lambda: system.catalog.note(
            tenant, "events.correct", "events", after=asked, actor=actor, now_us=system.clock.now_us()
        ),
    )
    waiting: list[Positions] = []
    if retract:
        waiting.append(await system.log.append(_retracting(tenant, retract, system.clock.now_us(), note)))
    if replacements is not None and len(replacements):
        columns = replace(replacements, action=actions.REPLACE, note=note)
        waiting.append(await system.log.append(columns))
    statuses: list[str] = []
    for positions in waiting:
        found = await system.recorder.statuses(positions, system.settings.wait_s_max)
        if found is None:
            raise TimedOut(
                "The corrections are stored, and not counted yet: the recorder is behind. Asking for them again is safe.",
                code="not_recorded_in_time",
                retry_after_s=1,
            )
        statuses += found
    if not waiting:
        return CorrectionResult(system.recorder.position, statuses)
    return CorrectionResult(united(*map(vector_of, waiting)), statuses)


async def stage(system: System, tenant: str, key: str, events: EventColumns) -> Vector:
    """Lay events aside for an open backfill; answers the position. Nothing counts before the backfill is closed.

    Raises NotFound (backfill_not_found), Conflict (backfill_not_open).
    """
    backfill = await in_questions(system, lambda: system.catalog.backfill(tenant, key))
    _must_be(backfill, "open")
    note = msgspec.json.encode(BackfillNote(backfill=key))
    return vector_of(await system.log.append(replace(events, action=actions.STAGE, note=note)))


async def close_backfill(system: System, tenant: str, key: str, *, actor: Actor) -> Backfill:
    """Let a backfill count, all of it at once. Answers it closed, or still `closing` when that takes longer than a
    request may wait. Closing it again changes nothing."""
    backfill = await in_questions(system, lambda: system.catalog.backfill(tenant, key))
    if backfill.state != "closed":
        await _begin(system, backfill, actor, before="open", during="closing")
    elif not await in_store(system, lambda: system.store.staged_count(tenant, key)):
        return backfill
    # Also when it is closed already and something is still laid aside: the recorder says that it is closed before it has
    # written down that it is done, and until then it may need what is laid aside once more.
    if await _carry_out(system, backfill, actor, actions.CLOSE):
        await in_store(system, lambda: system.store.delete_staged(tenant, key))
    return await in_questions(system, lambda: system.catalog.backfill(tenant, key))


async def revert_backfill(system: System, tenant: str, key: str, *, actor: Actor) -> Backfill:
    """Take a closed backfill back, all of it at once: its events are retracted, what it replaced is current again."""
    backfill = await in_questions(system, lambda: system.catalog.backfill(tenant, key))
    if backfill.state == "reverted":
        return backfill
    await _begin(system, backfill, actor, before="closed", during="reverting")
    await _carry_out(system, backfill, actor, actions.REVERT)
    return await in_questions(system, lambda: system.catalog.backfill(tenant, key))


async def discard_backfill(system: System, tenant: str, key: str, *, actor: Actor) -> Backfill:
    """Throw away an open backfill and what was laid aside for it. Raises Conflict (backfill_not_open)."""
    backfill = await in_questions(system, lambda: system.catalog.backfill(tenant, key))
    _must_be(backfill, "open")
    note = msgspec.json.encode(BackfillNote(backfill=key, author=actor.name))
    positions = await system.log.append(_single(tenant, key, actions.DISCARD, note, system.clock.now_us()))
    if system.settings.partitions > 1 and not await system.recorder.wait_for(
        vector_of(positions), system.settings.wait_s_max
    ):
        # Before that, a backfill that takes the key again might lose what is sent to it.
        raise TimedOut(
            "The backfill is not discarded yet: a recorder is behind. Ask again.",
            code="not_recorded_in_time",
            retry_after_s=1,
        )
    return await in_questions(
        system,
        lambda: system.catalog.discard_backfill(tenant, key, actor=actor, now_us=system.clock.now_us()),
    )


async def _begin(
    system: System, backfill: Backfill, actor: Actor, *, before: BackfillState, during: BackfillState
) -> None:
    """Let nothing else be done with it from now on."""
    if backfill.state == during:
        return
    _must_be(backfill, before)
    await in_questions(
        system,
        lambda: system.catalog.advance_backfill(
            backfill.tenant, backfill.key, to_state=during, actor=actor, now_us=system.clock.now_us()
        ),
    )


async def _carry_out(system: System, backfill: Backfill, actor: Actor, action: str) -> bool:
    """Put the action into the log, also when it was under way already: the process may have ended before. An action that
    has been carried out does nothing the second time. Whether it is done; False when that takes too long."""
    note = BackfillNote(
        backfill=backfill.key, reason=backfill.reason, author=actor.name, replace=_scope(backfill.replace)
    )
    single = _single(backfill.tenant, backfill.key, action, msgspec.json.encode(note), system.clock.now_us())
    positions = await system.log.append(single)
    return await system.recorder.wait_for(vector_of(positions), system.settings.wait_s_max)


def _must_be(backfill: Backfill, state: BackfillState) -> None:
    if backfill.state != state:
        raise Conflict(
            f"The backfill {backfill.key!r} is {backfill.state}; this needs one that is {state}.",
            code=f"backfill_not_{state}",
        )


def _scope(given: BackfillRange | None) -> Replaced | None:
    if given is None:
        return None
    return Replaced(from_us=given.from_us, to_us=given.to_us, type=given.type, customer=given.customer)


def _retracting(tenant: str, items: Sequence[tuple[str, str]], now_us: int, note: bytes) -> EventColumns:
    sources, ids = [source for source, _ in items], [event_id for _, event_id in items]
    return bare_rows(tenant, sources, ids, now_us, action=actions.RETRACT, note=note)


def _single(tenant: str, key: str, action: str, note: bytes, now_us: int) -> EventColumns:
    rows = bare_rows(tenant, ["tallystick:backfill"], [key], now_us, action=action, note=note)
    return replace(rows, identity=[_OF_ALL])
