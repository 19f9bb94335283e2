"""What a data directory takes on disk, table by table: `python -m bench.disk DIR`.

The engine's tables by the metadata of their active parts; in a process of its own, because an engine directory belongs
to one process. Parts that were merged away are deleted by the engine some minutes later and are counted apart.
"""

import json
import sys
from pathlib import Path

import clickhouse_connect

from bench.machine import bytes_under


def sizes(directory: Path) -> dict[str, int]:
    """Bytes by what they are for: the engine's tables (active parts), identity index, log, catalog, journal."""
    client = clickhouse_connect.get_client(interface="chdb", path=str(directory.absolute() / "store"))
    try:
        rows = client.query(
            "SELECT table, toUInt64(sum(bytes_on_disk)) FROM system.parts "
            "WHERE active AND database = currentDatabase() GROUP BY table"
        ).result_rows
    finally:
        client.close()
    found = {str(row[0]): int(row[1]) for row in rows}
    found["identity index"] = bytes_under(directory / "identity")
    for name in ("log", "catalog", "recorder"):
        found[f"{name} file"] = sum(path.stat().st_blocks * 512 for path in directory.glob(f"{name}.sqlite*"))
    found["whole directory, parts merged away included"] = bytes_under(directory)
    return found


if __name__ == "__main__":
    print(json.dumps(sizes(Path(sys.argv[1]))))
