"""Alerts as a file has them, and as the API answers them."""

from tallystick.alerting.rule import parse_rule
from tallystick.cli.config.alerts import Alerts
from tallystick.cli.config.noun import steps_to


def test_what_is_exported_is_what_is_there() -> None:
    noun = Alerts()
    raw = {"key": "a", "meter": "m", "window": "day", "condition": {"op": "gte", "steps": [5, "10"]}}
    document = {**parse_rule(raw).to_wire(), "id": "al_1", "owner": None, "muted_until": None}
    present = noun.read(document)
    exported = noun.exported(present)
    assert exported == {
        "key": "a",
        "meter": "m",
        "window": "day",
        "condition": {"op": "gte", "steps": ["5", "10"]},
    }
    assert steps_to(noun, [noun.checked(exported)], [present], prune=True) == []
    (step,) = steps_to(noun, [noun.checked({**raw, "window": "week"})], [present], prune=True)
    assert [name for name, _, _ in step.differences()] == ["window"]
