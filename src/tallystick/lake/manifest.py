"""A manifest: the files that were written for one range of moments, and nothing else counts. Pure.

Manifests are numbered without gaps, each begins where the one before it ends, and names the digest of that one: who reads them
in order has every row once, whatever files an attempt that was killed has left beside them.
"""

from hashlib import sha256

import msgspec

FORMAT = "tallystick-export/1"
DIRECTORY = "_manifests"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A Parquet file. `path` is relative to the folder that `_manifests` lies in."""

    path: str
    rows: int
    bytes: int
    sha256: str
    partition: dict[str, str] = {}


class MeterPart(msgspec.Struct, frozen=True, kw_only=True):
    """Of an export of usage: a meter's version, and from when its readings are in this manifest. A meter that is new to the
    export comes with all its past."""

    meter: str
    version: int
    from_: str | None = msgspec.field(name="from")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`from` is exclusive (null: since the beginning), `to` is inclusive: moments of recording."""

    format: str = FORMAT
    tenant: str
    export: str
    export_id: str
    what: str
    number: int
    from_: str | None = msgspec.field(name="from")
    to: str
    previous: str | None
    rows: int
    files: tuple[File, ...]
    meters: tuple[MeterPart, ...] = ()
    invoices: tuple[int, int] | None = None
    """How far it is in the numbers of invoices, and in those of the audit where invoices became void."""


def name_of(number: int) -> str:
    """Where the manifest of this number lies."""
    return f"{DIRECTORY}/{number:08d}.json"


def encoded(manifest: Manifest) -> bytes:
    """The bytes of a manifest: the same for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decoded(content: bytes) -> Manifest | None:
    """A manifest of ours; None: something else."""
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return found if found.format == FORMAT else None


def digest_of(content: bytes) -> str:
    """What the next manifest names it by."""
    return sha256(content).hexdigest()
