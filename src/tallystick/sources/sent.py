"""What an object has given before, and what of it is new, other, or gone now that it was read again. Pure.

Identities are written down before events are sent, so that a run that was cut off is known, too.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import zstandard
from xxhash import xxh3_64_hexdigest

from tallystick.sources.mapping import Events

RETRACTED = "-"
UNKNOWN = "?"
SOURCE_DEFAULT = "/"
LIST_BYTES_MAX = 1 << 28
Identity = tuple[str, str]
"""(source, id) of an event."""


@dataclass(slots=True)
class Sifted:
    """The events of a block by what is to be done with them: indices. `entries`: what to write down."""

    entries: list[tuple[Identity, str]] = field(default_factory=list[tuple[Identity, str]])
    fresh: list[int] = field(default_factory=list[int])
    changed: list[int] = field(default_factory=list[int])


def sift(made: Events, known: dict[Identity, str]) -> Sifted:
    """Which events are new, and which differ from what was sent before. Those of `known` are taken out of it: what is left
    when all blocks are read is gone."""
    sifted = Sifted()
    for at, (line, event_id) in enumerate(zip(made.lines, made.ids, strict=True)):
        identity = (source_of(line), event_id)
        digest = xxh3_64_hexdigest(line.encode())
        sifted.entries.append((identity, digest))
        before = known.pop(identity, None)
        if before is None:
            sifted.fresh.append(at)
        elif before != digest:
            sifted.changed.append(at)
    return sifted


def source_of(line: str) -> str:
    """The source that an event says."""
    if '"source"' not in line:
        return SOURCE_DEFAULT
    try:
        source = json.loads(line).get("source")
    except ValueError:
        return SOURCE_DEFAULT
    return source if isinstance(source, str) else SOURCE_DEFAULT


def some(made: Events, indices: Sequence[int]) -> Events:
    """The events at these places."""
    return Events(
        lines=[made.lines[at] for at in indices],
        numbers=[made.numbers[at] for at in indices],
        ids=[made.ids[at] for at in indices],
    )


def packed(entries: Iterable[tuple[Identity, str]]) -> bytes:
    """Entries as they are kept."""
    text = "\n".join(json.dumps([*identity, digest]) for identity, digest in entries)
    return zstandard.ZstdCompressor(level=1).compress(text.encode())


def unpacked(raw: bytes) -> Iterator[tuple[Identity, str]]:
    """The entries of a list."""
    text = zstandard.ZstdDecompressor().decompress(raw, max_output_size=LIST_BYTES_MAX)
    for line in text.decode().splitlines():
        source, event_id, digest = json.loads(line)
        yield (source, event_id), digest
