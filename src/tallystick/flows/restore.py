"""A backup checked, and made into an installation again (flows/backup.py has what is in one)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from tallystick.config import Settings
from tallystick.errors import Conflict, Invalid, TallystickError
from tallystick.flows.backup import (
    CATALOG,
    FORMAT,
    LEDGER,
    LOG,
    MANIFEST,
    MANIFEST_BYTES_MAX,
    BackupFile,
    BackupProgress,
    Manifest,
    data_file,
)
from tallystick.flows.journal import Journal
from tallystick.flows.target import Target, sync_directory
from tallystick.log.checkpoint import SqliteCheckpoint
from tallystick.store.interface import FACTS, Store

UNFINISHED = "restore-unfinished"
"""A file of this name in a data directory: what is in it is half of a backup. The server refuses to start there."""
_INSERT_ROWS = 500_000
_parquet: Any = pq


class BackupDamaged(TallystickError):
    """A backup is not as it was written."""

    default_code = "backup_damaged"


def read_manifest(source: Target) -> Manifest:
    """Raises Invalid (no_backup) where there is no finished backup, or one of a later program."""
    raw = source.read(MANIFEST, bytes_max=MANIFEST_BYTES_MAX)
    if raw is None:
        raise Invalid(f"{source.name} holds no finished backup: {MANIFEST} is missing.", code="no_backup")
    try:
        version = msgspec.json.decode(raw)["format"]
        if version != FORMAT:
            raise Invalid(
                f"{source.name} is a backup of format {version}; this program reads format {FORMAT}.",
                code="no_backup",
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise BackupDamaged(f"{MANIFEST} in {source.name} cannot be read: {error}.") from error


def verify(
    source: Target, *, on_progress: Callable[[BackupProgress], None] = lambda progress: None
) -> Manifest:
    """Check that every file is there and as it was written, and that they hold what the manifest says.

    Raises BackupDamaged naming the first that is not."""
    manifest = read_manifest(source)
    sizes = source.names()
    held = dict.fromkeys(FACTS, 0)
    done, total = 0, sum(file.rows for file in manifest.files)
    for file in manifest.files:
        if sizes.get(file.name) != file.bytes:
            was = "is missing" if file.name not in sizes else f"has {sizes[file.name]} of {file.bytes} bytes"
            raise BackupDamaged(f"{source.name}: {file.name} {was}.")
        if source.checksum(file.name) != file.checksum:
            raise BackupDamaged(f"{source.name}: {file.name} is not as it was written: its checksum differs.")
        if file.table:
            held[file.table] = held.get(file.table, 0) + file.rows
            done += file.rows
            on_progress(BackupProgress(done, total))
    if held != dict.fromkeys(FACTS, 0) | manifest.rows or not {CATALOG, LOG} <= {
        file.name for file in manifest.files
    }:
        raise BackupDamaged(f"{source.name}: the files do not add up to what {MANIFEST} says.")
    return manifest


def restore(
    source: Target,
    settings: Settings,
    open_store: Callable[[], Store],
    *,
    on_progress: Callable[[BackupProgress], None] = lambda progress: None,
) -> Manifest:
    """Make an installation of a backup in an empty data directory. Checks every file as `verify` does, before anything
    is written. What a restore that did not finish has left there is done anew.

    Raises Conflict (data_dir_taken) when the data directory or the store holds anything else; BackupDamaged."""
    directory = Path(settings.data_dir).absolute()
    marker = directory / UNFINISHED
    _check_empty(directory, marker)
    manifest = verify(source)
    directory.mkdir(parents=True, exist_ok=True)
    marker.touch()
    sync_directory(directory)
    store = open_store()
    try:
        store.migrate()
        # Repeating is safe for the embedded store alone: its directory began empty. A served one must be emptied.
        if any(store.counts().get(table, 0) for table in FACTS):
            raise Conflict(
                "The store holds facts already. Restore into an empty one (setting store_url).",
                code="data_dir_taken",
            )
        done, total = 0, sum(manifest.rows.values())
        for file in manifest.files:
            if file.table:
                _insert(source, file, store)
                done += file.rows
                on_progress(BackupProgress(done, total))
        counts = store.counts()
        for table, rows in manifest.rows.items():
            if counts.get(table, rows) != rows:
                raise BackupDamaged(
                    f"The store holds {counts.get(table)} rows of {table} after {rows} were restored."
                )
    finally:
        store.close()
    checksums = {file.name: file.checksum for file in manifest.files}
    for name, url, part in ((CATALOG, settings.catalog_url, "catalog"), (LOG, settings.log_url, "log")):
        path = data_file(url, settings, part)
        if source.fetch(name, path) != checksums[name]:
            raise BackupDamaged(f"{source.name}: {name} changed while it was read.")
    if LEDGER in checksums and source.fetch(LEDGER, directory / LEDGER) != checksums[LEDGER]:
        raise BackupDamaged(f"{source.name}: {LEDGER} changed while it was read.")
    _write_journal(directory, manifest)
    marker.unlink()
    sync_directory(directory)
    return manifest


def check_finished(directory: Path) -> None:
    """Raises Conflict (restore_unfinished) for a data directory in which a restore did not get to its end."""
    if (directory / UNFINISHED).exists():
        raise Conflict(
            f"{directory} holds a restore that was not finished. Run `tallystick restore` again, or empty it.",
            code="restore_unfinished",
        )


def _check_empty(directory: Path, marker: Path) -> None:
    if not directory.exists():
        return
    if marker.exists():
        _empty(directory, but=marker)
    elif any(directory.iterdir()):
        raise Conflict(
            f"{directory} is not empty. A backup is restored into a new data directory only.",
            code="data_dir_taken",
        )


def _empty(directory: Path, *, but: Path) -> None:
    import shutil

    for path in directory.iterdir():
        if path == but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _insert(source: Target, file: BackupFile, store: Store) -> None:
    with source.reading(file.name) as opened:
        reader = _parquet.ParquetFile(opened)
        inserted = 0
        for number, batch in enumerate(reader.iter_batches(batch_size=_INSERT_ROWS)):
            rows = pa.Table.from_batches([batch]).cast(FACTS[file.table])
            store.insert_facts(file.table, rows, token=f"restore:{file.name}:{number}")
            inserted += rows.num_rows
    if inserted != file.rows:
        raise BackupDamaged(f"{source.name}: {file.name} holds {inserted} rows, not {file.rows}.")


def _write_journal(directory: Path, manifest: Manifest) -> None:
    """The recorder's state at the backup's moment, without what is derived: readings are built anew."""
    state = replace(manifest.state, intent=None, coverage={}, generation=manifest.state.generation + 1)
    journal = Journal(SqliteCheckpoint(directory / "recorder.sqlite"))
    try:
        journal.save(state)
    finally:
        journal.close()
