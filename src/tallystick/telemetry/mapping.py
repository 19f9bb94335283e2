"""Whose usage a reading is, and what type of event it becomes: a YAML file (setting `telemetry_mapping`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

from tallystick.errors import Fault, Invalid
from tallystick.telemetry.point import Attributes

SUBJECTS = (
    "tallystick.subject",
    "tallystick_subject",
    "customer",
    "customer.id",
    "customer_id",
    "tenant.id",
    "tenant_id",
    "enduser.id",
    "service.name",
    "job",
)
REPLICAS = ("__replica__", "prometheus_replica")
_LISTS = ("subject", "include", "exclude", "gauges", "replica")


@dataclass(frozen=True, slots=True)
class TelemetryMapping:
    """`subject`: attributes asked in this order, of the reading before those of its resource; `subject_default`: where none
    is there. `include`, `exclude`: metrics by name, with `*`. `types`: event types by metric; otherwise the type is the
    metric's name. `gauges`: metrics of Prometheus that are levels and wanted; of those only counters are taken otherwise.
    `replica`: labels that tell apart several Prometheus that read the same targets (the names are those of Mimir, Cortex and
    the Prometheus operator): one of them is heard."""

    subject: tuple[str, ...] = SUBJECTS
    subject_default: str | None = None
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    gauges: tuple[str, ...] = ()
    replica: tuple[str, ...] = REPLICAS
    types: Mapping[str, str] = field(default_factory=dict[str, str])

    def wants(self, name: str) -> bool:
        """Whether readings of this metric become events."""
        return _matches(name, self.include) and not _matches(name, self.exclude)

    def is_gauge(self, name: str) -> bool:
        """Whether a metric that does not say so is a level."""
        return _matches(name, self.gauges)

    def type_of(self, name: str) -> str:
        """The event type."""
        return self.types.get(name, name)

    def subject_of(self, attributes: Attributes, resource: Attributes) -> str | None:
        """Whose it is."""
        for name in self.subject:
            for where in (attributes, resource):
                value = where.get(name)
                if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                    return str(value)
        return self.subject_default


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(pattern == "*" or fnmatchcase(name, pattern) for pattern in patterns)


def read_mapping(document: Any) -> TelemetryMapping:
    """From the YAML document. Raises Invalid (invalid_setting) with every fault."""
    if document is None:
        return TelemetryMapping()
    if not isinstance(document, dict):
        raise Invalid("telemetry_mapping: the file is no mapping of names to values.", code="invalid_setting")
    given = cast("dict[Any, Any]", document)
    faults: list[str] = []
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in _LISTS:
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, list) or not all(
                isinstance(text, str) and text for text in cast("list[Any]", texts)
            ):
                faults.append(f"{name}: a list of names is wanted.")
            else:
                values[name] = tuple(cast("list[str]", texts))
        elif name == "subject_default":
            if value is not None and (not isinstance(value, str) or not value):
                faults.append(f"{name}: a text is wanted.")
            values[name] = value
        elif name == "types":
            if not isinstance(value, dict) or not all(
                isinstance(key, str) and isinstance(to, str) and to
                for key, to in cast("dict[Any, Any]", value).items()
            ):
                faults.append(f"{name}: event types by name of metric are wanted.")
            else:
                values[name] = cast("dict[str, str]", value)
        else:
            known = ", ".join((*_LISTS, "subject_default", "types"))
            faults.append(f"{name!r} is not known; there are {known}.")
    if faults:
        raise Invalid(
            "telemetry_mapping: " + " ".join(faults),
            code="invalid_setting",
            faults=[Fault("telemetry_mapping", "invalid_setting", fault) for fault in faults],
        )
    return TelemetryMapping(**values)
