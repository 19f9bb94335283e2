"""Corrections, backfills and earlier moments against a plain model: every answer ever given is given again, later.

The model keeps, for each identity, what counts; the system keeps versions and compensating readings. After each step
the present figures agree, and at the end every earlier moment still gives what it gave then: from readings, from
events alone, and from readings that were built anew.
"""

import itertools
from collections import defaultdict
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.api.questions.live import WAIT_S, Live, Tenant

from tallystick.catalog.interface import SYSTEM, BackfillRange
from tallystick.flows import correct
from tallystick.flows.usage import UsageRequest, usage
from tallystick.metering.event import EventColumns, content_of, identities_of
from tallystick.metering.position import vector_of

HOUR_US = 3_600_000_000
BEGIN_US = 1_784_000_000_000_000
_runs = itertools.count()

Content = tuple[str, int, int]  # subject, hour, value


def columns(tenant: str, events: list[tuple[str, Content]]) -> EventColumns:
    ids, sources = [key for key, _ in events], ["/"] * len(events)
    subjects = [subject for _, (subject, _, _) in events]
    data = [b'{"n":%d}' % value for _, (_, _, value) in events]
    return EventColumns(
        tenant=tenant,
        received_at_us=BEGIN_US,
        source=sources,
        id=ids,
        type=["call"] * len(events),
        subject=subjects,
        time_us=np.array([BEGIN_US + hour * HOUR_US for _, (_, hour, _) in events], np.int64),
        time_given=np.ones(len(events), np.bool_),
        data=data,
        attributes=[b""] * len(events),
        identity=identities_of(tenant, sources, ids),
        content=content_of(["call"] * len(events), subjects, data),
    )


class Model:
    """What counts now, and what was answered at every moment."""

    def __init__(self, live: Live, tenant: Tenant) -> None:
        self.live, self.tenant = live, tenant
        self.counts: dict[str, Content | None] = {}  # by id; None: retracted
        self.closed: dict[str, tuple[set[str], dict[str, Content]]] = {}  # what it made, what it superseded
        self.history: list[tuple[int, dict[str, dict[str, Decimal]]]] = []
        for key, aggregation in (
            ("sum", "sum"),
            ("max", "max"),
            ("count", "count"),
            ("p50", "p50"),
            ("last", "latest"),
        ):
            value = {} if aggregation == "count" else {"value": "$.n"}
            tenant.meter(key=key, event_type="call", aggregation=aggregation, **value)

    # -- steps ----------------------------------------------------------------------------------------------------
    def send(self, events: list[tuple[str, Content]]) -> None:
        position = self.live.run(self.live.system.log.append(columns(self.tenant.key, events)))
        assert self.live.run(self.live.system.recorder.wait_for(vector_of(position), WAIT_S))
        for key, content in events:
            self.counts.setdefault(key, content)

    def correct(self, retract: list[str], replacing: list[tuple[str, Content]]) -> None:
        expected = []
        for key in retract:
            if key not in self.counts:
                expected.append("not_found")
            elif self.counts[key] is None:
                expected.append("already_retracted")
            else:
                self.counts[key] = None
                expected.append("retracted")
        for key, content in replacing:
            before = self.counts.get(key, "unknown")
            if before == "unknown":
                expected.append("not_found")
                continue
            expected.append(
                "unchanged" if before == content else "restored" if before is None else "replaced"
            )
            self.counts[key] = content
        result = self.live.run(
            correct.correct(
                self.live.system,
                self.tenant.key,
                reason="tests",
                actor=SYSTEM,
                retract=[("/", key) for key in retract],
                replacements=columns(self.tenant.key, replacing) if replacing else None,
            )
        )
        assert result.statuses == expected

    def backfill(self, key: str, events: list[tuple[str, Content]], hours: tuple[int, int] | None) -> None:
        system, tenant = self.live.system, self.tenant.key
        scope = None
        if hours is not None:
            scope = BackfillRange(BEGIN_US + hours[0] * HOUR_US, BEGIN_US + hours[1] * HOUR_US, "call", None)
        system.catalog.create_backfill(
            tenant, key, reason="tests", author="a test", replace=scope, actor=SYSTEM, now_us=BEGIN_US
        )
        if events:
            self.live.run(correct.stage(system, tenant, key, columns(tenant, events)))
        closed = self.live.run(correct.close_backfill(system, tenant, key, actor=SYSTEM))
        assert closed.state == "closed"
        superseded: dict[str, Content] = {}
        made: set[str] = set()
        if hours is not None:
            superseded = {
                known: content
                for known, content in self.counts.items()
                if content is not None and hours[0] <= content[1] < hours[1]
            }
            for known in superseded:
                self.counts[known] = None
        for known, content in events:
            if known not in self.counts or (known in superseded and known not in made):
                self.counts[known] = content
                made.add(known)
        self.closed[key] = (made, superseded)

    def revert(self, key: str) -> None:
        reverted = self.live.run(
            correct.revert_backfill(self.live.system, self.tenant.key, key, actor=SYSTEM)
        )
        assert reverted.state == "reverted"

    # -- answers --------------------------------------------------------------------------------------------------
    def expected(self) -> dict[str, dict[str, Decimal]]:
        figures: dict[str, dict[str, Decimal]] = defaultdict(dict)
        by_subject: dict[str, list[tuple[int, Decimal]]] = defaultdict(list)
        for content in self.counts.values():
            if content is not None:
                by_subject[content[0]].append((content[1], Decimal(content[2])))
        for subject, readings in by_subject.items():
            values = sorted(value for _, value in readings)
            figures["sum"][subject] = sum(values, Decimal(0))
            figures["max"][subject] = values[-1]
            figures["count"][subject] = Decimal(len(values))
            figures["p50"][subject] = values[-(-len(values) // 2) - 1]
        return figures

    def answers(self, as_of_us: int | None = None) -> dict[str, dict[str, Decimal]]:
        figures: dict[str, dict[str, Decimal]] = {}
        for key in ("sum", "max", "count", "p50"):
            answer = self.live.run(
                usage(
                    self.live.system,
                    UsageRequest(
                        tenant=self.tenant.key,
                        meter=key,
                        from_us=BEGIN_US - HOUR_US,
                        to_us=BEGIN_US + 100 * HOUR_US,
                        group_by=("subject",),
                        as_of_us=as_of_us,
                    ),
                )
            )
            found = {str(row.group[0]): row.value for row in answer.rows if row.value is not None}
            if found:
                figures[key] = found
        return figures

    def check(self) -> None:
        now = self.answers()
        # A count or sum of nothing is no row, and so is one whose readings were all taken back.
        assert {key: dict(found) for key, found in now.items()} == {
            key: dict(found) for key, found in self.expected().items()
        }
        self.history.append((self.live.system.recorder.recorded_at_us, now))

    def check_history(self) -> None:
        for moment_us, answered in self.history:
            assert self.answers(moment_us) == answered


contents = st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 5), st.integers(-3, 9))
keys = st.sampled_from([f"e{number}" for number in range(8)])
batches = st.lists(st.tuples(keys, contents), min_size=1, max_size=4, unique_by=lambda event: event[0])
steps = st.one_of(
    st.tuples(st.just("send"), batches),
    st.tuples(
        st.just("correct"), st.lists(keys, max_size=3), st.lists(st.tuples(keys, contents), max_size=3)
    ),
    st.tuples(
        st.just("backfill"), st.lists(st.tuples(keys, contents), max_size=5), st.none() | st.just((1, 4))
    ),
)


def play(live: Live, script: list[Any]) -> Model:
    model = Model(live, live.tenant())
    for number, (name, *arguments) in enumerate(script):
        if name == "send":
            model.send(*arguments)
        elif name == "correct":
            model.correct(*arguments)
        else:
            model.backfill(f"b{number}", *arguments)
        model.check()
    model.check_history()
    return model


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, min_size=1, max_size=6))
def test_every_moment_keeps_its_answers(live: Live, script: list[Any]) -> None:
    play(live, script)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(steps, min_size=1, max_size=12))
def test_every_moment_keeps_its_answers_at_length(live: Live, script: list[Any]) -> None:
    play(live, script)


def test_a_reverted_backfill_leaves_what_was_there_before(live: Live) -> None:
    model = Model(live, live.tenant())
    model.send([("e0", ("ann", 0, 1)), ("e1", ("ann", 2, 2)), ("e2", ("bob", 3, 4))])
    model.check()
    before = dict(model.counts)
    model.backfill("fix", [("e1", ("ann", 2, 20)), ("new", ("bob", 2, 7))], (1, 4))
    model.check()
    assert model.counts == {"e0": ("ann", 0, 1), "e1": ("ann", 2, 20), "e2": None, "new": ("bob", 2, 7)}
    model.revert("fix")
    model.counts = {**before, "new": None}
    model.check()
    model.revert("fix")  # again: nothing more
    model.check()
    model.check_history()


def test_what_was_corrected_after_a_backfill_stays_corrected_when_it_is_reverted(live: Live) -> None:
    model = Model(live, live.tenant())
    model.send([("e1", ("ann", 2, 2)), ("e2", ("ann", 2, 3))])
    model.backfill("fix", [("e1", ("ann", 2, 20)), ("e2", ("ann", 2, 30))], (1, 4))
    model.correct([], [("e1", ("ann", 2, 99))])
    model.revert("fix")
    model.counts = {"e1": ("ann", 2, 99), "e2": ("ann", 2, 3)}
    model.check()
    model.check_history()


def test_earlier_moments_survive_the_loss_of_all_readings(live: Live) -> None:
    model = play(
        live,
        [
            ("send", [("e0", ("ann", 0, 1)), ("e1", ("bob", 2, 2))]),
            ("correct", ["e0"], [("e1", ("bob", 2, 5))]),
            ("correct", [], [("e0", ("ann", 1, 8))]),
            ("backfill", [("e1", ("bob", 3, 6)), ("e5", ("ann", 2, 4))], (1, 4)),
        ],
    )
    live.system.store.delete_readings(None)
    model.check_history()
    live.run(until_built(live))
    model.check_history()


async def until_built(live: Live) -> None:
    import asyncio

    for _ in range(1800):
        if not live.system.recorder.unbuilt():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the readings were not built again")
