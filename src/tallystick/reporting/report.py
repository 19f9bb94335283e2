"""A report: a view, sent as a file to a channel at stated times."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from tallystick.document import Document
from tallystick.reporting.schedule import Schedule, read_schedule
from tallystick.reporting.view import NAME_CHARACTERS_MAX

Format = Literal["csv", "pdf"]
FORMATS: tuple[Format, ...] = ("csv", "pdf")


@dataclass(frozen=True, slots=True)
class Report:
    """As a person sets it."""

    key: str
    name: str
    view: str
    schedule: Schedule
    format: Format
    channel: str
    enabled: bool

    def next_due_us(self, now_us: int) -> int | None:
        """None: it is not sent by itself."""
        return self.schedule.after(now_us) if self.enabled else None

    def to_wire(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "view": self.view,
            "schedule": self.schedule.to_wire(),
            "format": self.format,
            "channel": self.channel,
            "enabled": self.enabled,
        }


def read_report(raw: object) -> Report:
    """Raises Invalid with every fault."""
    document = Document(raw)
    key = document.key("key") or ""
    name = document.text("name", characters_max=NAME_CHARACTERS_MAX) or key
    view, channel = document.key("view") or "", document.key("channel") or ""
    if not document.has("format"):
        document.fault("missing", f"is required: one of {', '.join(FORMATS)}.", "format")
    form = cast("Format | None", document.choice("format", FORMATS)) or "csv"
    enabled = document.boolean("enabled")
    given = document.take("schedule")
    if given is None:
        document.fault("missing", "is required.", "schedule")
    inner = document.below({"every": "day"} if given is None else given, "schedule")
    schedule = read_schedule(inner)
    inner.close()
    document.finish()
    return Report(key, name, view, schedule, form, channel, enabled is not False)
