"""Whose usage a reading is, and what is wrong with a mapping."""

import pytest

from tallystick.errors import Invalid
from tallystick.telemetry.mapping import TelemetryMapping, read_mapping


def test_the_reading_is_asked_before_its_resource() -> None:
    mapping = read_mapping(
        {"subject": ["customer", "service.name"], "types": {"a": "b"}, "exclude": ["go_*"]}
    )
    assert mapping.subject_of({"customer": "x"}, {"customer": "y"}) == "x"
    assert mapping.subject_of({"service.name": "z"}, {"customer": "y"}) == "y"
    assert mapping.subject_of({"customer": 7}, {}) == "7"
    assert mapping.subject_of({"customer": ""}, {}) is None
    assert (mapping.type_of("a"), mapping.type_of("c")) == ("b", "c")
    assert (mapping.wants("go_gc_total"), mapping.wants("x_total")) == (False, True)
    assert read_mapping(None) == TelemetryMapping()
    assert read_mapping({"subject_default": "all"}).subject_of({}, {}) == "all"


def test_every_fault_is_told() -> None:
    with pytest.raises(Invalid) as found:
        read_mapping({"subject": 7, "types": [], "subject_default": 1, "more": 2, "include": "*"})
    assert len(found.value.faults) == 4
    with pytest.raises(Invalid):
        read_mapping([])
