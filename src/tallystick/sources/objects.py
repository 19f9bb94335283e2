"""Objects of a folder or a bucket become events, each object once; replaced ones become corrections.

**Which objects.** Every look lists all of them and compares versions (a bucket's ETag, a file's size and time) with what is
written down, so that an object that comes late is taken whatever its name. **Which events.** An event's identity is what its
row says (a column, a template); a row that says none has one that follows from the object's name and the row's content, and
its running number among equal rows (setting `identity`). So the same object taken twice, or half of it before a crash, is the
same events. **Replaced.** A row whose content is another becomes a replacement, one that is gone a retraction.

Progress: part `o/NAME` says of an object which version was taken, how many rows, and what came of them. Parts `.i/NAME/…`
list the identities that were sent, a block of rows each, written before they are sent.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO, Protocol

import structlog

from tallystick.errors import TallystickError
from tallystick.sources.files import FileFormat, format_of, rows_of_stream
from tallystick.sources.interface import Feed, Refusal, Reject, SourceFaultError, digest_of
from tallystick.sources.mapping import EventMaker, Events
from tallystick.sources.rows import Refused, Rows
from tallystick.sources.sent import RETRACTED, UNKNOWN, Identity, packed, sift, some, unpacked
from tallystick.sources.source import Source

SMALL_BYTES = 256 * 1024
SMALL_AT_ONCE = 32
SMALL_BLOCKS = 2
REPORT_LINES_MAX = 10_000
REPORT_CONTENT_CHARACTERS_MAX = 1000
UNREADABLE = "unreadable_object"

_logger = structlog.get_logger("sources")


class GoneError(Exception):
    """The object is not there any more, or is another by now: the next look tells."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object as it was listed. `version` changes whenever its content does."""

    name: str
    version: str
    size: int
    modified_us: int


class Place(Protocol):
    """Where objects are. Called from threads."""

    def found(self) -> Iterator[Found]:
        """All objects that may be taken: not those being written, nor reports. Raises SourceFaultError."""
        ...

    def opened(self, found: Found) -> AbstractContextManager[BinaryIO]:
        """Its content, seekable, in exactly this version. Raises GoneError, SourceFaultError."""
        ...

    def report(self, name: str, lines: Sequence[bytes]) -> None:
        """Write the rejected lines of an object beside it; no lines: there is no report. Raises SourceFaultError."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectState:
    """How far an object is. `rows`: the last row behind us, while it is being taken. `before`: the version that
    was taken before this one, whose events are corrected; "": earlier ones were cut off, and nobody knows what they sent. `fault`: why it could not be read to its end."""

    version: str
    size: int
    modified_us: int
    is_taken: bool = False
    rows: int = 0
    blocks: int = 0
    events: int = 0
    replaced: int = 0
    retracted: int = 0
    rejected: int = 0
    before: str | None = None
    fault: str = ""

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@dataclass(slots=True)
class _Whole:
    """A small object that was read in one go."""

    found: Found
    blocks: list[Events]
    fault: str = ""


class _ObjectError(Exception):
    """The object cannot be read on, in words."""


class ObjectsRunner:
    """One source of objects at work."""

    def __init__(self, source: Source, feed: Feed, place: Place) -> None:
        self._source = source
        self._feed = feed
        self._place = place
        self._format = None if source.format == "auto" else FileFormat(source.format)
        self._by_content = source.settings["identity"] == "content"
        self._every_s = float(source.settings["every_seconds"])
        self._states: dict[str, ObjectState] = {}

    def stop(self) -> None:
        """The feed says it, too, wherever this waits."""

    async def run(self) -> None:
        for part, raw in (await self._feed.progress("o/")).items():
            self._states[part.removeprefix("o/")] = ObjectState(**json.loads(raw))
        while True:
            await self.sweep()
            await self._feed.sleep(self._every_s)

    async def sweep(self) -> int:
        """Take what is new; how many objects."""
        found = await asyncio.to_thread(self._new)
        # The oldest first: what replaces another usually comes after it.
        found.sort(key=lambda one: (one.modified_us, one.name))
        at = 0
        self._feed.observe(lag=len(found))
        while at < len(found):
            group: list[Found] = []
            while at + len(group) < len(found) and len(group) < SMALL_AT_ONCE:
                one = found[at + len(group)]
                if one.size > SMALL_BYTES or one.name in self._states:
                    break
                group.append(one)
            if group:
                await self._take_small(group)
            else:
                await self._take(found[at])
            at += max(1, len(group))
            self._feed.observe(lag=len(found) - at)
        return len(found)

    def _new(self) -> list[Found]:
        return [one for one in self._place.found() if self._is_new(one)]

    def _is_new(self, found: Found) -> bool:
        if self._format is None and format_of(found.name) is None:
            return False
        state = self._states.get(found.name)
        return state is None or not state.is_taken or state.version != found.version

    def _maker(self, found: Found) -> EventMaker:
        return EventMaker(self._source.mapping, seed="" if self._by_content else found.name)

    # -- reading (in threads) ----------------------------------------------------------------------------------------
    def _read_whole(self, found: Found) -> _Whole | None:
        """None: gone, or more than a small object's rows."""
        maker = self._maker(found)
        whole = _Whole(found, [])
        try:
            with self._place.opened(found) as stream:
                source = rows_of_stream(stream, found.name, self._format, size=found.size)
                for rows in source.blocks:
                    if len(whole.blocks) == SMALL_BLOCKS:
                        return None
                    whole.blocks.append(maker.events(rows))
        except GoneError:
            return None
        except SourceFaultError:
            raise
        except TallystickError as error:
            whole.fault = error.detail
        return whole

    def _open(self, found: Found, stack: ExitStack) -> Iterator[Rows]:
        stream = stack.enter_context(self._place.opened(found))
        return rows_of_stream(stream, found.name, self._format, size=found.size).blocks

    @staticmethod
    def _next(blocks: Iterator[Rows], maker: EventMaker) -> Events | None:
        try:
            rows = next(blocks, None)
            return None if rows is None else maker.events(rows)
        except TallystickError as error:
            raise _ObjectError(error.detail) from error

    # -- small ones, many at once --------------------------------------------------------------------------------------
    async def _take_small(self, group: Sequence[Found]) -> None:
        read = await asyncio.gather(*(asyncio.to_thread(self._read_whole, one) for one in group))
        wholes = [one for one in read if one is not None]
        lists: dict[str, bytes | None] = {}
        lines: list[str] = []
        for whole in wholes:
            lists[f"o/{whole.found.name}"] = _begun(whole.found, None).to_bytes()
            for number, made in enumerate(whole.blocks):
                lists[list_part(whole.found, number)] = packed(sift(made, {}).entries)
                lines += made.lines
        await self._feed.save(lists)
        verdicts = await self._feed.accept(lines)
        at = 0
        states: dict[str, bytes | None] = {}
        taken = 0
        for whole in wholes:
            state = _begun(whole.found, None)
            rejects: list[Reject] = []
            for number, made in enumerate(whole.blocks):
                told = verdicts[at : at + len(made.lines)]
                at += len(made.lines)
                rejects += _rejects(whole.found.name, made, told)
                if any(told):
                    states[list_part(whole.found, number)] = packed(_accepted(made, told))
                state = _after(state, told)
            if whole.fault:
                rejects.append(_unreadable(whole.found, whole.fault))
            await self._finish(whole.found, rejects)
            state = replace(state, is_taken=True, fault=whole.fault, rejected=len(rejects))
            states[f"o/{whole.found.name}"] = state.to_bytes()
            self._states[whole.found.name] = state
            taken += state.events
        await self._feed.save(states, taken=taken)
        for one, whole in zip(group, read, strict=True):
            if whole is None:
                await self._take(one)

    # -- one, block by block -------------------------------------------------------------------------------------------
    async def _take(self, found: Found) -> None:
        before = self._states.get(found.name)
        state = _begun(found, before)
        known: dict[Identity, str] = {}
        retried: dict[str, Identity] = {}
        if before is not None and (state.before is not None or before.version != found.version):
            known = await self._known(found, state.before)
            for digest, source, event_id in await self._feed.retaken(found.name):
                retried[digest] = (source, event_id)
                known.setdefault((source, event_id), UNKNOWN)
        with ExitStack() as stack:
            rejects: list[Reject] = []
            try:
                blocks = await asyncio.to_thread(self._open, found, stack)
            except GoneError:
                return
            except SourceFaultError:
                raise
            except TallystickError as error:
                state = replace(state, fault=error.detail)
            else:
                rejects, state = await self._take_blocks(found, blocks, state, known)
        if state.fault:
            rejects.append(_unreadable(found, state.fault))
        state = await self._correct_rest(found, state, known, retried, rejects)
        await self._finish(found, rejects)
        await self._end(found, replace(state, is_taken=True, rejected=len(rejects)))

    async def _take_blocks(
        self, found: Found, blocks: Iterator[Rows], state: ObjectState, known: dict[Identity, str]
    ) -> tuple[list[Reject], ObjectState]:
        maker = self._maker(found)
        behind = state.rows
        number = 0
        rejects: list[Reject] = []
        while True:
            try:
                made = await asyncio.to_thread(self._next, blocks, maker)
            except _ObjectError as error:
                return rejects, replace(state, fault=str(error))
            if made is None:
                return rejects, state
            sifted = sift(made, known)
            last = max((*made.numbers, *(one.row for one in made.refused)), default=0)
            if last > behind:
                await self._feed.save(
                    {
                        list_part(found, number): packed(sifted.entries),
                        f"o/{found.name}": replace(state, rejected=len(rejects)).to_bytes(),
                    }
                )
                fresh = some(made, sifted.fresh)
                told = await self._feed.accept(fresh.lines)
                rejected = _rejects(found.name, fresh, told)
                rejected += [_rejected(found.name, one) for one in made.refused]
                state = _after(state, told)
                changed = [made.lines[at] for at in sifted.changed]
                refused, replaced, missing = await self._replace(found, made, sifted.changed, changed)
                rejected += refused
                await self._reject(rejected)
                rejects += rejected
                gone = {one.raw.decode() for one in rejected if one.form == "event"}
                entries = [
                    entry for entry, line in zip(sifted.entries, made.lines, strict=True) if line not in gone
                ]
                state = replace(state, rows=last, blocks=number + 1, replaced=state.replaced + replaced)
                taken = sum(one is None for one in told) + missing
                await self._feed.save(
                    {
                        list_part(found, number): packed(entries),
                        f"o/{found.name}": replace(state, rejected=len(rejects)).to_bytes(),
                    },
                    taken=taken,
                )
                self._states[found.name] = state
            number += 1

    async def _replace(
        self, found: Found, made: Events, indices: Sequence[int], lines: Sequence[str]
    ) -> tuple[list[Reject], int, int]:
        """Rows that say something else than before: those refused, how many were replaced, how many were new after all."""
        if not lines:
            return [], 0, 0
        _, statuses = await self._feed.correct(reason=_reason(found), retract=(), replace=lines)
        again = [
            at for at, status in zip(indices, statuses, strict=True) if status in ("not_found", "rejected")
        ]
        missing = some(
            made, again
        )  # written down by a run that was cut off before it sent them, or no events
        told = await self._feed.accept(missing.lines)
        rejected = _rejects(found.name, missing, told)
        done = sum(status in ("replaced", "restored") for status in statuses)
        return rejected, done, sum(one is None for one in told)

    async def _correct_rest(
        self,
        found: Found,
        state: ObjectState,
        known: Mapping[Identity, str],
        retried: Mapping[str, Identity],
        rejects: Sequence[Reject],
    ) -> ObjectState:
        """Retract what the object does not say any more. Not of one that cannot be read to its end: nobody knows."""
        if state.fault or not known:
            return state
        # What was refused before, mended by somebody, and is refused again in the same words, stays mended.
        still = {digest_of(one.where, one.raw) for one in rejects}
        mended = {one for digest, one in retried.items() if digest in still}
        gone = [one for one, said in known.items() if said != RETRACTED and one not in mended]
        if gone:
            statuses, _ = await self._feed.correct(reason=_reason(found), retract=gone, replace=())
            done = sum(status not in ("not_found", "rejected") for status in statuses)
            state = replace(state, retracted=state.retracted + done)
        return state

    async def _known(self, found: Found, before: str | None) -> dict[Identity, str]:
        """What earlier versions are known to have sent."""
        known: dict[Identity, str] = {}
        lists = await self._feed.progress(f".i/{found.name}/")
        own = f".i/{found.name}/{short(found.version)}/"
        last = None if before is None else f".i/{found.name}/{short(before)}/"
        for part, raw in lists.items():
            if part.startswith(own):
                continue
            is_last = last is not None and part.startswith(last)
            for identity, digest in unpacked(raw):
                known[identity] = digest if is_last and identity not in known else UNKNOWN
        return known

    async def _end(self, found: Found, state: ObjectState) -> None:
        """It is behind us: forget what earlier versions sent, but for what was retracted, which may come back."""
        changes: dict[str, bytes | None] = {f"o/{found.name}": replace(state, before=None).to_bytes()}
        if state.before is not None:
            own = f".i/{found.name}/{short(found.version)}/"
            lists = await self._feed.progress(f".i/{found.name}/")
            said = {one for part, raw in lists.items() if part.startswith(own) for one, _ in unpacked(raw)}
            rest = {
                one: RETRACTED
                for part, raw in lists.items()
                if not part.startswith(own)
                for one, _ in unpacked(raw)
                if one not in said
            }
            if state.fault:
                # Not known to be gone: an UNKNOWN one is asked about when the object can be read.
                rest = dict.fromkeys(rest, UNKNOWN)
            changes |= {part: None for part in lists if not part.startswith(own)}
            if rest:
                changes[f"{own}rest"] = packed(rest.items())
        await self._feed.save(changes)
        self._states[found.name] = replace(state, before=None)

    async def _finish(self, found: Found, rejects: Sequence[Reject]) -> None:
        """Dead letters, and the report beside the object."""
        await self._reject(rejects)
        lines = [_report_line(found.name, one) for one in rejects[:REPORT_LINES_MAX]]
        state = self._states.get(found.name)
        if lines or state is not None:
            await asyncio.to_thread(self._place.report, found.name, lines)

    async def _reject(self, rejects: Sequence[Reject]) -> None:
        if rejects:
            await self._feed.reject(rejects)


def list_part(found: Found, number: int) -> str:
    """The part that lists identities of a block of rows."""
    return f".i/{found.name}/{short(found.version)}/{number:06}"


def short(version: str) -> str:
    """A version as a part of a name."""
    return hashlib.sha256(version.encode()).hexdigest()[:16]


def _reason(found: Found) -> str:
    return f"the object was replaced: {found.name}"


def _begun(found: Found, before: ObjectState | None) -> ObjectState:
    state = ObjectState(found.version, found.size, found.modified_us)
    if before is None:
        return state
    if before.version != found.version:
        # One that was cut off may have sent, replaced or retracted anything of its own and of those before it.
        return replace(state, before=before.version if before.is_taken else "")
    if before.rejected:
        # Read from its beginning, so that the report is whole. Nothing counts twice.
        return replace(state, before=before.before)
    return replace(before, is_taken=False, fault="")


def _after(state: ObjectState, told: Sequence[Refusal | None]) -> ObjectState:
    return replace(state, events=state.events + sum(one is None for one in told))


def _accepted(made: Events, told: Sequence[Refusal | None]) -> list[tuple[Identity, str]]:
    kept = [at for at, one in enumerate(told) if one is None]
    return sift(some(made, kept), {}).entries


def _rejects(name: str, made: Events, told: Sequence[Refusal | None]) -> list[Reject]:
    rejects = [_rejected(name, one) for one in made.refused]
    for at, verdict in enumerate(told):
        if verdict is not None:
            rejects.append(
                Reject(
                    made.lines[at].encode(),
                    f"{name}#{made.numbers[at]}",
                    verdict.code,
                    verdict.detail,
                    "event",
                )
            )
    return rejects


def _rejected(name: str, one: Refused) -> Reject:
    return Reject(one.content.encode(), f"{name}#{one.row}", one.code, one.detail)


def _unreadable(found: Found, fault: str) -> Reject:
    return Reject(b"", f"{found.name}#{short(found.version)}", UNREADABLE, fault)


def _report_line(name: str, one: Reject) -> bytes:
    row = one.where.removeprefix(f"{name}#")
    said = {
        "row": int(row) if row.isdigit() else None,
        "code": one.code,
        "detail": one.detail,
        "content": one.raw.decode(errors="replace")[:REPORT_CONTENT_CHARACTERS_MAX],
    }
    return json.dumps(said, ensure_ascii=False).encode()
