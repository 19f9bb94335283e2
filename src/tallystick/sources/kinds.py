"""Which kinds of source there are, and what can be set of each. Pure: a table, and how to read a value by it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from tallystick.document import Document

SettingKind = Literal["text", "integer", "boolean", "choice", "texts", "secret", "url"]
TEXT_CHARACTERS_MAX = 4096
ITEMS_MAX = 100
REFERENCE = re.compile(r"\$\{([A-Z][A-Z0-9_]{0,127})\}")
"""What stands in a setting for a secret: the name of an environment variable of the server."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set. `secret`: a reference to an environment variable, `${NAME}`, never the secret itself.
    `url`: a URL, whose password (if there is one) is such a reference."""

    help: str
    kind: SettingKind = "text"
    default: Any = None
    required: bool = False
    least: int = 0
    most: int = 2**53
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """`formats`: those its records may have; the first is the default. `settings`: by name."""

    help: str
    formats: tuple[str, ...]
    settings: Mapping[str, Setting]


_FILE_FORMATS = ("auto", "ndjson", "json", "csv", "parquet")
_MESSAGE_FORMATS = ("json", "ndjson")

_OBJECTS = {
    "pattern": Setting("Which objects, by their name: *.csv, 2026/*.", default="*"),
    "every_seconds": Setting("Seconds between two looks.", kind="integer", default=15, least=1, most=86_400),
    "identity": Setting(
        "Of rows without an id. object: the object's name and the row's content, so that equal rows of two objects are two "
        "events. content: the row's content alone, wherever it lies.",
        kind="choice",
        default="object",
        choices=("object", "content"),
    ),
}

KINDS: Mapping[str, Kind] = {
    "folder": Kind(
        "Files of a folder of the server.",
        _FILE_FORMATS,
        {
            "dir": Setting("The folder, with all folders in it; below one of `source_dirs`.", required=True),
            **_OBJECTS,
            "settle_seconds": Setting(
                "Seconds for which a file must not have changed before it is taken.",
                kind="integer",
                default=2,
                most=86_400,
            ),
            "reports": Setting(
                "Whether rejected lines are written beside their file (NAME.rejects.ndjson).",
                kind="boolean",
                default=True,
            ),
        },
    ),
    "bucket": Kind(
        "Objects of a bucket: S3 and what speaks like it, Google Cloud Storage, Azure.",
        _FILE_FORMATS,
        {
            "url": Setting("s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.", required=True),
            "endpoint": Setting("Where an S3-like service is: http://minio:9000.", kind="url"),
            "region": Setting("Region of S3."),
            "access_key_id": Setting("Of S3, or the account of Azure."),
            "secret_access_key": Setting("Of S3, or the key of Azure's account.", kind="secret"),
            "service_account_key": Setting("Of Google: the key file's JSON.", kind="secret"),
            **_OBJECTS,
            "rejected_prefix": Setting(
                "Prefix within the bucket under which rejected lines are written, as NAME.rejected.ndjson. Empty: nowhere but "
                "among the dead letters."
            ),
            "object_bytes_max": Setting(
                "Objects that are larger are not taken.",
                kind="integer",
                default=5 * 1024**3,
                least=1,
            ),
        },
    ),
    "kafka": Kind(
        "Topics of Kafka, and of what speaks like it.",
        _MESSAGE_FORMATS,
        {
            "brokers": Setting("host:port, with commas between them.", required=True),
            "topics": Setting("Topics to read.", kind="texts", required=True),
            "group": Setting("The consumer group. Default: tallystick, tenant and key."),
            "start": Setting(
                "Where a group begins that has no offsets.",
                kind="choice",
                default="earliest",
                choices=("earliest", "latest"),
            ),
            "security": Setting(
                "How the brokers are spoken to.",
                kind="choice",
                default="plaintext",
                choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
            ),
            "sasl_mechanism": Setting(
                "Of SASL.", kind="choice", choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
            ),
            "username": Setting("Of SASL."),
            "password": Setting("Of SASL.", kind="secret"),
            "ca_certificate": Setting("Of TLS: the authority's certificate, PEM.", kind="secret"),
            "certificate": Setting("Of TLS: our own certificate, PEM.", kind="secret"),
            "private_key": Setting("Of TLS: our own key, PEM.", kind="secret"),
            "batch_events_max": Setting(
                "Messages taken at a time.", kind="integer", default=2000, least=1, most=10_000
            ),
        },
    ),
    "nats": Kind(
        "A stream of NATS JetStream.",
        _MESSAGE_FORMATS,
        {
            "url": Setting(
                "nats://user:${NAME}@host:port, with commas between them.", kind="url", required=True
            ),
            "stream": Setting("The stream.", required=True),
            "subject": Setting("Of the stream's subjects, which: usage.>. Default: all."),
            "durable": Setting("The consumer's name. Default: tallystick, tenant and key."),
            "batch_events_max": Setting(
                "Messages taken at a time.", kind="integer", default=1000, least=1, most=10_000
            ),
        },
    ),
    "amqp": Kind(
        "A queue of RabbitMQ, and of what speaks AMQP 0-9-1.",
        _MESSAGE_FORMATS,
        {
            "url": Setting("amqp://user:${NAME}@host:5672/vhost.", kind="url", required=True),
            "queue": Setting("The queue.", required=True),
            "batch_events_max": Setting(
                "Messages taken at a time.", kind="integer", default=500, least=1, most=10_000
            ),
        },
    ),
    "postgres": Kind(
        "Rows of a PostgreSQL table, in the order of a column that grows.",
        ("json",),
        {
            "url": Setting("postgresql://user:${NAME}@host:5432/database.", kind="url", required=True),
            "table": Setting("The table or view: usage, or schema.usage.", required=True),
            "cursor_column": Setting("A column that grows with every row that is added.", required=True),
            "key_columns": Setting(
                "Columns that name a row. Default: the primary key, or the cursor's.", kind="texts"
            ),
            "every_seconds": Setting(
                "Seconds between two looks.", kind="integer", default=5, least=1, most=86_400
            ),
            "settle_seconds": Setting(
                "Seconds for which rows may come late, below those that are there.",
                kind="integer",
                default=5,
                most=86_400,
            ),
            "batch_events_max": Setting(
                "Rows taken at a time.", kind="integer", default=2000, least=1, most=10_000
            ),
        },
    ),
    "postgres_changes": Kind(
        "Rows that are inserted into PostgreSQL tables, by logical replication; updates and deletes where asked.",
        ("json",),
        {
            "url": Setting(
                "postgresql://user:${NAME}@host:5432/database; the user may replicate.",
                kind="url",
                required=True,
            ),
            "publication": Setting("The publication, which names the tables.", required=True),
            "slot": Setting(
                "The replication slot, made where it is missing. Default: tallystick, tenant and key."
            ),
            "existing": Setting(
                "Rows that are there before the slot is made.",
                kind="choice",
                default="leave",
                choices=("leave", "take"),
            ),
            "updates": Setting(
                "What a changed row does: nothing, or correct its event.",
                kind="choice",
                default="ignore",
                choices=("ignore", "correct"),
            ),
            "deletes": Setting(
                "What a deleted row does: nothing, or retract its event.",
                kind="choice",
                default="ignore",
                choices=("ignore", "retract"),
            ),
            "every_seconds": Setting(
                "Seconds between two looks.", kind="integer", default=1, least=1, most=86_400
            ),
            "batch_events_max": Setting(
                "Changes taken at a time.", kind="integer", default=2000, least=1, most=10_000
            ),
        },
    ),
    "access_log": Kind(
        "A web server's log on the server's disk, through its rotations.",
        ("combined", "json"),
        {
            "path": Setting("The file that is written to; below one of `source_dirs`.", required=True),
            "rotated": Setting(
                "Whether lines left in a file that was renamed (PATH.1) are looked for.",
                kind="boolean",
                default=True,
            ),
            "every_seconds": Setting(
                "Seconds between two looks.", kind="integer", default=1, least=1, most=3600
            ),
        },
    ),
}


def read_settings(document: Document, kind: Kind) -> dict[str, Any]:
    """What a source sets, by its kind; defaults filled in, what is not set is absent. Faults are noted in `document`."""
    found: dict[str, Any] = {}
    for name, setting in kind.settings.items():
        if setting.required and not document.has(name):
            document.fault("missing", f"is required: {setting.help}", name)
        value = _READERS[setting.kind](document, name, setting)
        if value is None:
            value = setting.default
        if value is not None:
            found[name] = value
    document.close()
    return found


def _text(document: Document, name: str, _: Setting) -> str | None:
    return document.text(name, characters_max=TEXT_CHARACTERS_MAX)


def _secret(document: Document, name: str, _: Setting) -> str | None:
    value = document.text(name, characters_max=TEXT_CHARACTERS_MAX)
    if value is not None and not REFERENCE.fullmatch(value):
        document.fault(
            "secret_in_the_open",
            "must name an environment variable of the server that holds it, such as ${TALLYSTICK_SECRET_NAME}.",
            name,
        )
        return None
    return value


def _url(document: Document, name: str, _: Setting) -> str | None:
    value = document.text(name, characters_max=TEXT_CHARACTERS_MAX)
    if value is None:
        return None
    try:
        passwords = [urlsplit(part.strip()).password for part in value.split(",")]
    except ValueError:
        document.fault("invalid_value", "is no URL.", name)
        return None
    if any(password and not REFERENCE.fullmatch(password) for password in passwords):
        document.fault(
            "secret_in_the_open",
            "has a password in it; name an environment variable of the server instead: user:${TALLYSTICK_SECRET_NAME}@host.",
            name,
        )
        return None
    return value


def _integer(document: Document, name: str, setting: Setting) -> int | None:
    return document.integer(name, least=setting.least, most=setting.most)


def _boolean(document: Document, name: str, _: Setting) -> bool | None:
    return document.boolean(name)


def _choice(document: Document, name: str, setting: Setting) -> str | None:
    return document.choice(name, setting.choices)


def _texts(document: Document, name: str, setting: Setting) -> list[str] | None:
    found = document.texts(name, items_max=ITEMS_MAX, required=setting.required and document.has(name))
    return list(found) or None


_READERS: Mapping[SettingKind, Callable[[Document, str, Setting], Any]] = {
    "text": _text,
    "secret": _secret,
    "url": _url,
    "integer": _integer,
    "boolean": _boolean,
    "choice": _choice,
    "texts": _texts,
}


def variables_of(settings: Mapping[str, Any]) -> frozenset[str]:
    """The environment variables that settings name."""
    return frozenset(
        name for value in settings.values() if isinstance(value, str) for name in REFERENCE.findall(value)
    )


def resolved(kind: Kind, settings: Mapping[str, Any], variable: Callable[[str], str]) -> dict[str, Any]:
    """The settings with secrets in the place of their references: percent-encoded within a URL."""
    found = dict(settings)
    for name, value in settings.items():
        as_kind = kind.settings[name].kind
        if as_kind == "secret":
            found[name] = REFERENCE.sub(lambda match: variable(match[1]), value)
        elif as_kind == "url":
            found[name] = REFERENCE.sub(lambda match: quote(variable(match[1]), safe=""), value)
    return found
