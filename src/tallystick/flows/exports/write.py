"""One manifest with its files: planned before, written in an order that a repetition repeats.

Rows go into a file of this machine first, because the name of a file has the digest of its bytes: whoever writes the same rows
again, after a crash or beside another, writes the same file under the same name, and never alters one that a manifest names.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tallystick.catalog.exporting import ExportPlan, KeptExport, Partitioning
from tallystick.flows.exports.rows import parts_of
from tallystick.lake.interface import Place
from tallystick.lake.manifest import File, Manifest, MeterPart
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Meter

GROUP_ROWS = 65_536
FILE_ROWS_MAX = 2_000_000
DATA = "data"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Writing:
    """Where to, and what to ask before each file (`check` raises when another may be at it) and tell after each step."""

    place: Place
    number: int
    partitioning: Partitioning
    time: str
    """The column that says which part a row belongs to."""
    check: Callable[[], None]
    on_step: Callable[[str], None]
    file_rows_max: int = FILE_ROWS_MAX


def write_files(writing: Writing, schema: pa.Schema, blocks: Iterator[pa.Table]) -> tuple[File, ...]:
    """Put all rows into files: those of one part that come one after the other into one. In a thread."""
    made: list[File] = []
    with tempfile.TemporaryDirectory(prefix="tallystick-export-") as directory:
        current: _Writer | None = None
        for part, rows in _by_part(writing, blocks):
            taken = 0
            while taken < rows.num_rows:
                if current is not None and (current.part != part or current.rows >= writing.file_rows_max):
                    made.append(current.finish(writing, len(made)))
                    current = None
                if current is None:
                    current = _Writer(Path(directory) / "rows.parquet", part, schema)
                room = writing.file_rows_max - current.rows
                current.write(rows.slice(taken, room))
                taken += room
        if current is not None:
            made.append(current.finish(writing, len(made)))
    return tuple(made)


def _by_part(writing: Writing, blocks: Iterator[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    order = writing.partitioning
    for block in blocks:
        times = np.asarray(block[writing.time].cast(pa.int64()).combine_chunks())
        parts = parts_of(times, order)
        start = 0
        for end in [*(np.flatnonzero(np.diff(parts) != 0) + 1).tolist(), block.num_rows]:
            if end > start:
                yield int(parts[start]), block.slice(start, end - start)
            start = end


class _Writer:
    """One file while it is written, in groups of rows of one size, whatever the blocks were."""

    def __init__(self, path: Path, part: int, schema: pa.Schema) -> None:
        self.part = part
        self.rows = 0
        self._path = path
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._writer: Any = pq.ParquetWriter(path, schema, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        self.rows += rows.num_rows
        if self._waiting_rows >= GROUP_ROWS:
            whole = pa.concat_tables(self._waiting)
            even = whole.num_rows - whole.num_rows % GROUP_ROWS
            self._writer.write_table(whole.slice(0, even), row_group_size=GROUP_ROWS)
            self._waiting = [whole.slice(even)]
            self._waiting_rows = whole.num_rows - even

    def finish(self, writing: Writing, index: int) -> File:
        if self._waiting_rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=GROUP_ROWS)
        self._writer.close()
        with self._path.open("rb") as source:
            digest = file_digest(source, "sha256").hexdigest()
        partition = partition_of(self.part, writing.partitioning)
        folders = [f"{name}={value}" for name, value in partition.items()]
        name = "/".join([DATA, *folders, f"{writing.number:08d}-{index:05d}-{digest[:12]}.parquet"])
        made = File(
            path=name,
            rows=self.rows,
            bytes=self._path.stat().st_size,
            sha256=digest,
            partition=partition,
        )
        writing.check()
        writing.place.put(name, self._path)
        self._path.unlink()
        writing.on_step("file")
        return made


def partition_of(part: int, partitioning: Partitioning) -> dict[str, str]:
    """`date` and `hour` of a part's number (rows.parts_of)."""
    if partitioning == "none":
        return {}
    at = _EPOCH + timedelta(hours=part if partitioning == "hour" else 24 * part)
    date = {"date": f"{at:%Y-%m-%d}"}
    return {**date, "hour": f"{at:%H}"} if partitioning == "hour" else date


def manifest_of(
    kept: KeptExport, plan: ExportPlan, files: tuple[File, ...], meters: Mapping[str, Meter]
) -> Manifest:
    """What counts once it is there. `meters`: those of the plan, by id."""
    return Manifest(
        tenant=kept.tenant,
        export=kept.key,
        export_id=kept.id,
        what=kept.setup.what,
        number=plan.number,
        from_=_moment(plan.after_us),
        to=instant_text(plan.until_us),
        previous=kept.state.digest,
        rows=sum(file.rows for file in files),
        files=files,
        invoices=None if plan.invoices is None else (plan.invoices[1].sequence, plan.invoices[1].voided),
        meters=tuple(
            MeterPart(meter=meters[name].key, version=meters[name].version, from_=_moment(after_us))
            for name, after_us in sorted(plan.meters.items(), key=lambda item: int(item[0]))
        ),
    )


def _moment(us: int) -> str | None:
    return instant_text(us) if us else None
