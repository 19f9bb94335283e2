"""What a source is. Pure: the same reader serves the API, a file that is applied, and what the catalog has kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tallystick.document import Document
from tallystick.errors import Fault, Invalid
from tallystick.sources.kinds import KINDS, Kind, read_settings, variables_of
from tallystick.sources.mapping import Mapping as EventMapping
from tallystick.sources.mapping import check_mapping, mapping_to_wire, read_mapping

NAME_CHARACTERS_MAX = 256
MEMBERS = ("key", "name", "kind", "format", "settings", "mapping", "paused")
_FAULT = Fault


@dataclass(frozen=True, slots=True)
class Source:
    """Where events come from. `settings` by its kind (kinds.py); secrets in them are references. `mapping`: which part of
    a record is what of an event. While it is paused nothing is taken."""

    key: str
    kind: str
    format: str
    name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    mapping: EventMapping = field(default_factory=EventMapping)
    paused: bool = False

    @property
    def variables(self) -> frozenset[str]:
        """Environment variables that its settings name."""
        return variables_of(self.settings)

    @property
    def description(self) -> Kind:
        return KINDS[self.kind]

    def to_wire(self) -> dict[str, Any]:
        """As the API shows it, in full."""
        return {
            "key": self.key,
            "name": self.name,
            "kind": self.kind,
            "format": self.format,
            "settings": dict(self.settings),
            "mapping": mapping_to_wire(self.mapping),
            "paused": self.paused,
        }


def read_source(raw: object) -> Source:
    """Raises Invalid with every fault."""
    document = Document(raw)
    key = document.key("key") or ""
    name = document.text("name", characters_max=NAME_CHARACTERS_MAX)
    spelled = document.choice("kind", tuple(KINDS))
    if spelled is None and not document.has("kind"):
        document.fault("missing", f"is required: one of {', '.join(KINDS)}.", "kind")
    kind = KINDS.get(spelled or "")
    formats = kind.formats if kind is not None else ("",)
    chosen = document.choice("format", formats) if kind is not None else document.take("format")
    raw_settings = document.take("settings")
    settings: dict[str, Any] = {}
    if kind is not None:
        below = document.below({} if raw_settings is None else raw_settings, "settings")
        settings = read_settings(below, kind)
    mapping = EventMapping()
    try:
        mapping = read_mapping(document.take("mapping") or {})
        check_mapping(mapping)
    except Invalid as error:
        for one in error.faults or (_FAULT("", error.code, error.detail),):
            pointer = one.pointer.removeprefix("--").replace("-", "_").strip("/")
            steps = pointer.split("/", 1) if pointer else []
            document.fault(one.code, one.detail, "mapping", *steps)
    paused = bool(document.boolean("paused"))
    document.finish()
    assert kind is not None
    assert spelled is not None
    return Source(key, spelled, chosen or formats[0], name, settings, mapping, paused)
