"""The plan of a cluster: enough when a domain is lost, and never smaller for more."""

import dataclasses
import math
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from plan_cluster import MEASURED, Wanted, simulate, size

_WANTED = st.builds(
    Wanted,
    events_per_s=st.floats(1_000, 2_000_000),
    cores=st.sampled_from([4, 16, 64]),
    domains=st.integers(2, 5),
    burst=st.floats(1.0, 3.0),
    days_kept=st.integers(1, 1000),
    identities=st.floats(1e6, 1e10),
)


@given(_WANTED)
def test_no_part_is_overloaded_when_a_domain_is_lost(wanted: Wanted) -> None:
    plan = size(wanted, MEASURED)
    for part in plan.parts:
        assert part.used <= part.used_without_a_domain <= 1.0
        assert part.machines % wanted.domains == 0
    assert 1 <= plan.partitions <= 64


@given(_WANTED, st.floats(1.0, 4.0))
def test_more_events_never_need_fewer_machines(wanted: Wanted, times: float) -> None:
    less = size(wanted, MEASURED)
    more = size(dataclasses.replace(wanted, events_per_s=wanted.events_per_s * times), MEASURED)
    assert all(one.machines <= two.machines for one, two in zip(less.parts, more.parts, strict=True))


@settings(max_examples=3)
@given(st.sampled_from([10_000.0, 300_000.0, 1_000_000.0]))
def test_a_plan_survives_the_loss_of_a_domain(events_per_s: float) -> None:
    wanted = Wanted(events_per_s, cores=16, domains=3, burst=1.5, days_kept=400, identities=1e9)
    found = simulate(wanted, size(wanted, MEASURED), MEASURED)
    assert found.refused == 0
    assert found.caught_up_s < math.inf
    # While partitions stand still their share waits: the lease, and the filling of an index.
    assert found.longest_wait_s >= 5.0
