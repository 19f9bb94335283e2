"""`sources:` in a configuration file, and the commands beside it, against a system in process."""

from typing import Any

import pytest

from tallystick.cli.config.noun import changes_to
from tallystick.cli.config.sources import Sources
from tallystick.errors import Invalid

ENTRY: dict[str, Any] = {
    "key": "logs",
    "kind": "bucket",
    "settings": {"url": "s3://usage/in", "secret_access_key": "${TALLYSTICK_SECRET_S3}"},
    "mapping": {"id": "$.id", "compute": {"data.n": "data.a * 2"}},
}


def document(**more: Any) -> dict[str, Any]:
    """As the API answers the source."""
    return {**Sources().checked(ENTRY), "archived_at": None, "state": {}, **more}


def test_what_is_applied_is_read_back_the_same() -> None:
    noun = Sources()
    present = noun.read(document())
    assert changes_to(noun.checked(ENTRY), present) == {}
    exported = noun.exported(present)
    assert exported == {**ENTRY, "format": "auto"}
    assert noun.checked(exported) == present.entry
    assert present.path == "/v1/sources/logs"


def test_a_change_is_seen() -> None:
    noun = Sources()
    changed = noun.checked({**ENTRY, "paused": True})
    assert changes_to(changed, noun.read(document())) == {"paused": True}


def test_all_faults_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        Sources().checked({"key": "", "kind": "bucket", "settings": {"secret_access_key": "open"}, "x": 1})
    codes = {fault.code for fault in caught.value.faults}
    assert {"invalid_key", "missing", "secret_in_the_open", "unknown_member"} <= codes
