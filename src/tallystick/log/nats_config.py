"""What a stream of events is like: how it is made, and which settings would lose events.

A stream keeps every message until we purge it (no limits of age or count), refuses instead of discarding, keeps single
messages from being deleted, and sends a notice of each message it has stored, without its bytes.
"""

from typing import Any

import structlog

from tallystick.errors import Invalid
from tallystick.log.interface import LogDamagedError
from tallystick.log.nats_url import NatsUrl

DUPLICATE_WINDOW_S = 120
"""How long the servers know a message by its id: much longer than a publish is tried."""

_FORMAT = "1"
_FORMAT_KEY = "tallystick_format"
_PARTITION_KEY = "tallystick_partition"

_logger = structlog.get_logger("tallystick.log")


def subject(url: NatsUrl, partition: int) -> str:
    """Where events are published to."""
    return f"{url.stream}.log.{partition}"


def stored_subject(url: NatsUrl, partition: int) -> str:
    """Where the notices of stored messages come from."""
    return f"{url.stream}.stored.{partition}"


def stream_config(name: str, url: NatsUrl, partition: int, first_sequence: int) -> dict[str, Any]:
    """For JetStream's STREAM.CREATE."""
    return {
        "name": name,
        "description": "Tallystick's event log, one stream a partition. Trimmed by the recorder.",
        "subjects": [subject(url, partition)],
        "storage": "file",
        "retention": "limits",
        "discard": "new",
        "max_age": 0,
        "max_bytes": -1,
        "max_msgs": -1,
        "max_msg_size": -1,
        "num_replicas": url.replicas,
        "duplicate_window": DUPLICATE_WINDOW_S * 10**9,
        "allow_direct": True,
        "deny_delete": True,
        "first_seq": first_sequence,
        "republish": {
            "src": subject(url, partition),
            "dest": stored_subject(url, partition),
            "headers_only": True,
        },
        "metadata": {_FORMAT_KEY: _FORMAT, _PARTITION_KEY: str(partition)},
    }


def check_config(config: dict[str, Any], url: NatsUrl, partition: int) -> None:
    """A stream that would lose events by its own settings is refused, however it came about.

    Raises Invalid; LogDamagedError when it belongs to another partition.
    """
    metadata = config.get("metadata") or {}
    if metadata.get(_FORMAT_KEY) != "1":
        raise Invalid(
            f"The stream {config.get('name')} is not an event log of this version; use another `stream=` in log_url.",
            code="invalid_setting",
        )
    if metadata.get(_PARTITION_KEY) != str(partition):
        raise LogDamagedError(
            f"The stream {config.get('name')} says it is partition {metadata.get(_PARTITION_KEY)}, not {partition}."
        )
    # Limits of bytes and messages are harmless: with discard=new the stream refuses when it reaches them.
    limits = {name: config.get(name, -1) for name in ("max_age", "max_msgs_per_subject")}
    wrong = [f"{name}={value}" for name, value in limits.items() if value > 0]
    if config.get("storage") != "file":
        wrong.append(f"storage={config.get('storage')}")
    if config.get("retention") != "limits":
        wrong.append(f"retention={config.get('retention')}")
    if config.get("discard") != "new":
        wrong.append(f"discard={config.get('discard')}")
    if config.get("duplicate_window", 0) < DUPLICATE_WINDOW_S * 10**9:
        wrong.append("duplicate_window")
    if not config.get("allow_direct"):
        wrong.append("allow_direct")
    if wrong:
        raise Invalid(
            f"The stream {config.get('name')} could lose events, or cannot be read: {', '.join(wrong)}. Restore its "
            "settings with the `nats` tool.",
            code="invalid_setting",
        )
    if config.get("num_replicas", 1) != url.replicas:
        _logger.warning(
            "log_replicas_differ",
            stream=config.get("name"),
            replicas=config.get("num_replicas", 1),
            wanted=url.replicas,
        )
