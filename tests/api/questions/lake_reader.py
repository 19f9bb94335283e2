"""Reads what a continuous export has written, as anybody may: by its manifests alone."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def manifests_of(root: Path) -> list[dict[str, Any]]:
    """In order; held to what they promise of themselves and of their files."""
    found: list[dict[str, Any]] = []
    digest, end = None, None
    for number, path in enumerate(sorted((root / "_manifests").glob("*.json")), 1):
        content = path.read_bytes()
        manifest = json.loads(content)
        assert path.name == f"{number:08d}.json"
        assert (manifest["number"], manifest["previous"], manifest["from"]) == (number, digest, end)
        assert manifest["rows"] == sum(file["rows"] for file in manifest["files"])
        for file in manifest["files"]:
            written = (root / file["path"]).read_bytes()
            assert hashlib.sha256(written).hexdigest() == file["sha256"]
            assert len(written) == file["bytes"]
        digest, end = hashlib.sha256(content).hexdigest(), manifest["to"]
        found.append(manifest)
    return found


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Every row that a manifest names."""
    tables = [
        pq.ParquetFile(root / file["path"]).read()
        for manifest in manifests_of(root)
        for file in manifest["files"]
    ]
    return pa.concat_tables(tables).to_pylist() if tables else []
