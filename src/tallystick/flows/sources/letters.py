"""Dead letters are tried again: as they came in, or as somebody has mended them.

What a letter becomes has the identity that is in it, or, where it says none, one that follows from the place where it was:
tried twice, or tried again after a crash, it is one event.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.catalog.interface import Actor
from tallystick.catalog.sourcing import LETTERS_AT_ONCE_MAX, DeadLetter, LetterSearch
from tallystick.errors import Conflict, Invalid
from tallystick.flows.known_subjects import KnownSubjects
from tallystick.flows.sources.feed import catalog_of, decoded_lines
from tallystick.flows.system import System
from tallystick.sources.interface import Record
from tallystick.sources.mapping import EventMaker, Mapping
from tallystick.sources.records import events_of_records
from tallystick.sources.source import read_source


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of trying several: how many became events, how many were refused again, how many are left open of those
    that were meant."""

    retried: int
    refused: int
    more: bool


async def retry(system: System, tenant: str, number: int) -> DeadLetter:
    """Try one again; the letter as it is then. Raises NotFound (dead_letter_not_found), Conflict (dead_letter_closed), and
    what the log raises: then nothing has changed, and it may be tried again."""
    catalog = catalog_of(system)
    letter = await asyncio.to_thread(catalog.dead_letter, tenant, number)
    if letter.status != "open":
        raise Conflict(f"The dead letter {number} is {letter.status} already.", code="dead_letter_closed")
    return await _retry(system, letter, _known(system))


async def retry_all(system: System, tenant: str, search: LetterSearch) -> Retried:
    """Try the oldest open ones again, at most LETTERS_AT_ONCE_MAX."""
    catalog = catalog_of(system)
    wanted = LetterSearch(search.source, "open", search.code)
    page = await asyncio.to_thread(lambda: catalog.dead_letters(tenant, wanted, limit=LETTERS_AT_ONCE_MAX))
    known = _known(system)
    after: list[DeadLetter] = [await _retry(system, letter, known) for letter in page.items]
    retried = sum(one.status == "retried" for one in after)
    return Retried(retried, len(after) - retried, page.next_cursor is not None)


async def discard_all(system: System, tenant: str, search: LetterSearch, *, actor: Actor) -> tuple[int, bool]:
    """Close the oldest open ones, at most LETTERS_AT_ONCE_MAX: how many, and whether there are more."""
    catalog = catalog_of(system)
    wanted = LetterSearch(search.source, "open", search.code)

    def work() -> tuple[int, bool]:
        page = catalog.dead_letters(tenant, wanted, limit=LETTERS_AT_ONCE_MAX)
        numbers = [letter.number for letter in page.items]
        closed = catalog.discard_dead_letters(tenant, numbers, actor=actor, now_us=system.clock.now_us())
        return closed, page.next_cursor is not None

    return await asyncio.to_thread(work)


def _known(system: System) -> KnownSubjects | None:
    return KnownSubjects(system.catalog) if system.settings.unknown_subject == "reject" else None


async def _retry(system: System, letter: DeadLetter, known: KnownSubjects | None) -> DeadLetter:
    catalog = catalog_of(system)
    event, code, detail = await _attempt(system, letter, known)
    return await asyncio.to_thread(
        lambda: catalog.note_retried(
            letter.tenant,
            letter.number,
            event=event,
            code=code,
            detail=detail,
            now_us=system.clock.now_us(),
        )
    )


async def _attempt(
    system: System, letter: DeadLetter, known: KnownSubjects | None
) -> tuple[tuple[str, str] | None, str, str]:
    """The identity of the event that is in the log now, or why there is none."""
    if letter.truncated:
        return (
            None,
            "letter_truncated",
            "It was too long to be kept whole: PUT it in full before it is retried.",
        )
    mapping = Mapping()
    if letter.form == "record":
        kept = await asyncio.to_thread(catalog_of(system).source, letter.tenant, letter.source)
        mapping = read_source({**kept.content}).mapping
    try:
        lines, code, detail = _lines(letter, mapping)
    except Invalid as error:
        return None, error.code, error.detail
    if not lines:
        return None, code, detail
    found = await decoded_lines(system, letter.tenant, lines, known)
    if found.rejected:
        return None, found.rejected[0].code, found.rejected[0].detail
    await system.log.append(found.events)
    system.metrics.events_accepted.inc(len(found.events))
    return (found.events.source[0], found.events.id[0]), "", ""


def _lines(letter: DeadLetter, mapping: Mapping) -> tuple[Sequence[str], str, str]:
    """The event of a letter, and why there is none."""
    # The identity has the key in it already, so that it is the same wherever the letter came from.
    key, _, where = letter.identity.partition(":")
    made, _ = events_of_records(EventMaker(mapping), [Record(letter.raw, where)], "json", key=key)
    if made.refused:
        return (), made.refused[0].code, made.refused[0].detail
    if len(made.lines) != 1:
        told = f"A dead letter is one record; this one is {len(made.lines)}, or `where` leaves it out."
        return (), "not_one_record", told
    return made.lines, "", ""
