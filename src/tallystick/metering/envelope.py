"""The rules for an event's attributes, each spelled twice: `judge` for one event, with a verdict for every fault, and
`judge_all` for many at once, which only says whether all of them are clean. A property test holds the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tallystick.metering.event import EventColumns, content_of, identities_of
from tallystick.metering.instant import instant_us, instants_us
from tallystick.metering.verdict import (
    ID_CHARACTERS_MAX,
    SOURCE_CHARACTERS_MAX,
    SUBJECT_CHARACTERS_MAX,
    TYPE_CHARACTERS_MAX,
    Decoded,
    Fault,
    Limits,
    Rejection,
)

SOURCE_DEFAULT = "/"
SPECVERSION = "1.0"
_NUMPY_FROM = 16
"""Fewer times than this are compared faster in plain integers."""


@dataclass(frozen=True, slots=True)
class NotText:
    """Stands in for an attribute whose value is not a string."""

    kind: str  # "a number", "an object", …


Attribute = str | NotText | None


@dataclass(slots=True)
class Envelope:
    """One event before its verdict. None: absent. `data` is b"" when absent; what is wrong with it is in `faults`."""

    id: Attribute = None
    source: Attribute = None
    type: Attribute = None
    subject: Attribute = None
    time: Attribute = None
    specversion: Attribute = None
    data: bytes = b""
    attributes: bytes = b""
    faults: list[Fault] = field(default_factory=list[Fault])  # found by the reader; structure before data


@dataclass(frozen=True, slots=True)
class Receipt:
    """What is the same for all events of a request."""

    tenant: str
    received_at_us: int
    limits: Limits


class Verdicts:
    """Gathers the events of one request one by one: accepted ones as columns, the others as rejections."""

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt
        self._count = 0
        self._indices: list[int] = []
        self._rejected: list[Rejection] = []
        self._sources: list[str] = []
        self._ids: list[str] = []
        self._types: list[str] = []
        self._subjects: list[str] = []
        self._time_us: list[int] = []
        self._time_given: list[bool] = []
        self._data: list[bytes] = []
        self._attributes: list[bytes] = []

    def __len__(self) -> int:
        return self._count

    def reject(self, faults: Sequence[Fault], event_id: Attribute = None) -> None:
        """The next event is rejected, for the first of these faults."""
        code, detail = faults[0]
        others = list(dict.fromkeys(fault.code for fault in faults[1:]))
        if others:
            detail += f" Also: {', '.join(others)}."
        if not isinstance(event_id, str) or not 0 < len(event_id) <= ID_CHARACTERS_MAX or "\0" in event_id:
            event_id = None
        self._rejected.append(Rejection(self._count, event_id, code, detail))
        self._count += 1

    def judge(self, envelope: Envelope) -> None:
        """The next event is accepted, or rejected for what is wrong with it."""
        limits, received_at_us = self._receipt.limits, self._receipt.received_at_us
        faults: list[Fault] = []
        event_id = _required(envelope.id, "id", ID_CHARACTERS_MAX, faults)
        event_type = _required(envelope.type, "type", TYPE_CHARACTERS_MAX, faults)
        subject = _required(envelope.subject, "subject", SUBJECT_CHARACTERS_MAX, faults)
        source = _source(envelope.source, faults)
        if envelope.specversion not in (None, SPECVERSION):
            faults.append(
                Fault("unsupported_specversion", f'specversion must be "{SPECVERSION}" or be left out.')
            )
        time_us = _time_us(envelope.time, received_at_us, limits.future_tolerance_us, faults)
        faults += envelope.faults
        for name, part in (("data has", envelope.data), ("the other attributes have", envelope.attributes)):
            if len(part) > limits.event_bytes_max:
                detail = f"{name} {len(part):,} bytes; {limits.event_bytes_max:,} are allowed."
                faults.append(Fault("event_too_large", detail))
        if faults:
            self.reject(sorted(faults, key=_structure_first), envelope.id)
            return
        self._indices.append(self._count)
        self._sources.append(source)
        self._ids.append(event_id)
        self._types.append(event_type)
        self._subjects.append(subject)
        self._time_us.append(time_us)
        self._time_given.append(envelope.time is not None)
        self._data.append(envelope.data)
        self._attributes.append(envelope.attributes)
        self._count += 1

    def finish(self) -> Decoded:
        events = _columns(
            self._receipt,
            sources=self._sources,
            ids=self._ids,
            types=self._types,
            subjects=self._subjects,
            time_us=np.array(self._time_us, np.int64),
            time_given=np.array(self._time_given, np.bool_),
            data=self._data,
            attributes=self._attributes,
        )
        return Decoded(events, self._rejected, self._indices if self._rejected else None)


def judge_all(
    receipt: Receipt,
    *,
    ids: list[str],
    types: list[str],
    subjects: list[str],
    sources: list[str],
    times: Sequence[str | None],
    data: list[bytes],
    attributes: list[bytes],
    nul_possible: bool,
) -> Decoded | None:
    """Many events at once, lists of one length. None: at least one of them must be judged on its own.

    `sources` has the default filled in. What is not asked here, the reader has made sure of: that data is an object,
    its depth, its keys, specversion. `nul_possible`: whether an attribute could contain a NUL.
    """
    for texts, characters_max in (
        (ids, ID_CHARACTERS_MAX),
        (types, TYPE_CHARACTERS_MAX),
        (subjects, SUBJECT_CHARACTERS_MAX),
        (sources, SOURCE_CHARACTERS_MAX),
    ):
        if "" in texts or max(map(len, texts)) > characters_max:
            return None
        if nul_possible and any("\0" in text for text in texts):
            return None
    bytes_max = receipt.limits.event_bytes_max
    if max(map(len, data)) > bytes_max or max(map(len, attributes)) > bytes_max:
        return None
    received_at_us = receipt.received_at_us
    latest_us = received_at_us + receipt.limits.future_tolerance_us
    try:
        if len(ids) < _NUMPY_FROM:
            instants = [received_at_us if time is None else instant_us(time) for time in times]
            if max(instants) > latest_us or min(instants) < 0:
                return None
            time_us = np.array(instants, np.int64)
            time_given = np.array([time is not None for time in times], np.bool_)
        else:
            given = [time for time in times if time is not None]
            time_us = instants_us(given)
            time_given = np.ones(len(ids), np.bool_)
            if len(given) < len(ids):
                time_given = np.fromiter((time is not None for time in times), np.bool_, len(ids))
                some_us, time_us = time_us, np.full(len(ids), received_at_us, np.int64)
                time_us[time_given] = some_us
            if time_us.max() > latest_us or time_us.min() < 0:
                return None
    except ValueError:
        return None
    events = _columns(
        receipt,
        sources=sources,
        ids=ids,
        types=types,
        subjects=subjects,
        time_us=time_us,
        time_given=time_given,
        data=data,
        attributes=attributes,
    )
    return Decoded(events, [], None)


def _columns(
    receipt: Receipt,
    *,
    sources: list[str],
    ids: list[str],
    types: list[str],
    subjects: list[str],
    time_us: NDArray[np.int64],
    time_given: NDArray[np.bool_],
    data: list[bytes],
    attributes: list[bytes],
) -> EventColumns:
    return EventColumns(
        tenant=receipt.tenant,
        received_at_us=receipt.received_at_us,
        source=sources,
        id=ids,
        type=types,
        subject=subjects,
        time_us=time_us,
        time_given=time_given,
        data=data,
        attributes=attributes,
        identity=identities_of(receipt.tenant, sources, ids),
        content=content_of(types, subjects, data),
    )


_STRUCTURE = frozenset({"duplicate_key", "nesting_too_deep", "invalid_json", "invalid_row"})


def _structure_first(fault: Fault) -> bool:
    return fault.code not in _STRUCTURE


def _required(value: Attribute, name: str, characters_max: int, faults: list[Fault]) -> str:
    if value is None or value == "":
        faults.append(Fault(f"missing_{name}", f"{name} is required and must not be empty."))
        return ""
    return _text(value, name, "invalid_field", characters_max, faults)


def _source(value: Attribute, faults: list[Fault]) -> str:
    if value is None:
        return SOURCE_DEFAULT
    if value == "":
        faults.append(
            Fault("invalid_source", f'source must not be empty; left out, it is "{SOURCE_DEFAULT}".')
        )
        return ""
    return _text(value, "source", "invalid_source", SOURCE_CHARACTERS_MAX, faults)


def _text(value: str | NotText, name: str, code: str, characters_max: int, faults: list[Fault]) -> str:
    if isinstance(value, NotText):
        faults.append(Fault(code, f"{name} must be a string, not {value.kind}."))
        return ""
    if len(value) > characters_max:
        faults.append(Fault(code, f"{name} has {len(value):,} characters; it may have {characters_max:,}."))
    if "\0" in value:
        faults.append(Fault(code, f"{name} contains a NUL character (U+0000)."))
    return value


def _time_us(value: Attribute, received_at_us: int, tolerance_us: int, faults: list[Fault]) -> int:
    if value is None:
        return received_at_us
    if isinstance(value, NotText):
        faults.append(Fault("invalid_time", f"time must be an RFC 3339 string, not {value.kind}."))
        return 0
    try:
        time_us = instant_us(value)
    except ValueError as error:
        faults.append(Fault("invalid_time", f"time: {error}"))
        return 0
    if time_us < 0:
        faults.append(Fault("invalid_time", f"time: {value!r} lies before 1970."))
    elif time_us > received_at_us + tolerance_us:
        ahead_s = (time_us - received_at_us) // 1_000_000
        faults.append(
            Fault(
                "time_in_future",
                f"time: {value!r} is {ahead_s:,} s ahead of the server's clock; {tolerance_us // 1_000_000:,} s are allowed.",
            )
        )
    return time_us
