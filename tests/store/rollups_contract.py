"""What every store must do with roll-ups. Beside contract.py, with the same fixtures.

`usage` (from readings) is held to the oracle by contract.py; here roll-ups are held to `usage`.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.store.contract import (
    DAY,
    HOUR,
    NOON,
    a_meter,
    a_query,
    an_event,
    record,
    some_events,
    some_question,
    table,
)

from tallystick.metering.evaluate import OracleEvent
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.query import Filter, Operator
from tallystick.metering.reading import derive
from tallystick.store import rollups
from tallystick.store.interface import RollupView, Store
from tallystick.store.question.rollups import can_answer, views

_compute: Any = pc
ROLLED = [Aggregation.COUNT, Aggregation.SUM, Aggregation.AVERAGE, Aggregation.MIN, Aggregation.MAX]
LATER = 2 * 10**15


def roll_up(
    store: Store,
    meters: list[Meter],
    after_us: int,
    through_us: int,
    *,
    token: str = "t",
    span_hours: int = 1,
    view: RollupView = RollupView.WHOLE,
) -> dict[int, int]:
    plan = store.rollup_plan(meters, after_us=after_us, through_us=through_us)
    for number, chunk in enumerate(plan.chunks):
        store.build_rollups(
            meters,
            after_us=after_us,
            through_us=through_us,
            chunk=chunk,
            token=f"{token}:{after_us}-{through_us}:{number}",
            span_hours=span_hours,
            view=view,
        )
    return dict(plan.readings)


def take_back(
    store: Store, meters: list[Meter], events: list[OracleEvent], at_us: int, token: str = "b"
) -> None:
    readings = derive(meters, table(events))
    for name, value in (("sign", pa.scalar(-1, pa.int8())), ("recorded_at", pa.scalar(at_us, pa.int64()))):
        column = readings.schema.get_field_index(name)
        values = pa.array([value.as_py()] * readings.num_rows, value.type).cast(
            readings.schema.field(column).type
        )
        readings = readings.set_column(column, readings.schema.field(column), values)
    store.insert_readings(readings, token=token)


class RollupsContract:
    def test_roll_ups_hold_each_reading_once(self, store: Store) -> None:
        meters = [a_meter(one, id=i + 1) for i, one in enumerate(ROLLED)]
        events = [
            an_event(i, time_us=NOON + (i // 7) * HOUR, customer=f"c{i % 2}", data=f'{{"n":{i}.5}}'.encode())
            for i in range(1, 60)
        ]
        record(store, meters, events)
        through = events[39].recorded_at_us
        assert roll_up(store, meters, 0, through) == {m.id: 40 for m in meters}
        assert store.rolled_up() == {m.id: (40, 0) for m in meters}
        roll_up(store, meters, 0, through)
        assert store.rolled_up() == {m.id: (40, 0) for m in meters}
        assert store.rollup_groups([1, 2]) == store.rollup_rows([1, 2]) == {1: 12, 2: 12}
        roll_up(store, meters, through, LATER)
        assert store.rolled_up() == {m.id: (59, 0) for m in meters}
        assert store.rollup_plan(meters, after_us=LATER, through_us=LATER + 1).chunks == ()
        for meter in meters:
            query = a_query(meter, (NOON - DAY, NOON, NOON + DAY), group_by=("customer",), as_of_us=LATER)
            assert store.usage_from_rollups(query, rolled_up_to_us=LATER, rows_max=9) == store.usage(
                query, rows_max=9
            )
        store.delete_rollups([2])
        assert store.rolled_up() == {m.id: (59, 0) for m in meters if m.id != 2}
        roll_up(store, meters[1:2], 0, LATER, token="again")
        assert store.rolled_up()[2] == (59, 0)
        store.delete_rollups(None)
        assert store.rolled_up() == {}
        assert store.counts()["rollups"] == 0

    def test_roll_ups_that_vanished_are_missed_and_made_again(self, store: Store, side_door: Any) -> None:
        meter = a_meter()
        record(store, [meter], [an_event(1)])
        roll_up(store, [meter], 0, LATER)
        side_door("DROP TABLE rollups SYNC")
        assert store.rolled_up() == {}
        store.delete_rollups([1])
        store.delete_rollups(None)
        roll_up(store, [meter], 0, LATER, token="again")
        assert store.rolled_up() == {1: (1, 0)}
        side_door("ALTER TABLE rollups MODIFY COMMENT 'an older layout'")
        store.migrate()
        assert store.rolled_up() == {}

    def test_rows_that_vanished_behind_our_back_are_missed(self, store: Store, side_door: Any) -> None:
        meter = a_meter()
        record(store, [meter], [an_event(1), an_event(2, customer="c2")])
        roll_up(store, [meter], 0, LATER)
        assert store.rolled_up() == {1: (2, 0)}
        side_door("ALTER TABLE rollups DELETE WHERE customer = 'c2'")
        assert store.rolled_up() == {1: (1, 0)}
        side_door("OPTIMIZE TABLE rollups FINAL")
        assert store.rolled_up() == {1: (1, 0)}

    @pytest.mark.parametrize("aggregation", list(Aggregation))
    def test_what_roll_ups_do_not_hold_is_left_to_readings(
        self, store: Store, aggregation: Aggregation
    ) -> None:
        meter = a_meter(aggregation)
        whole = a_query(meter)
        assert can_answer(whole, span_hours=1) == (aggregation in ROLLED)
        assert not can_answer(replace(whole, group_by=("subject",)), span_hours=1)
        assert not can_answer(
            replace(whole, filters=(Filter("subject", Operator.EQ, ("s1",)),)), span_hours=1
        )
        assert not can_answer(a_query(meter, (NOON, NOON + HOUR // 2, NOON + DAY)), span_hours=1)
        assert not can_answer(a_query(meter, (NOON + 1, NOON + HOUR + 1)), span_hours=1)
        if aggregation not in ROLLED:
            assert store.usage_from_rollups(whole, rolled_up_to_us=0, rows_max=1) is None
        late = replace(whole, as_of_us=NOON)
        assert store.usage_from_rollups(late, rolled_up_to_us=NOON + 1, rows_max=1) is None

    def test_a_reading_taken_back_leaves_sums_right_and_extremes_to_readings(self, store: Store) -> None:
        meters = [a_meter(one, id=i + 1) for i, one in enumerate(ROLLED)]
        events = [an_event(i, data=f'{{"n":{i}}}'.encode()) for i in range(1, 6)]
        record(store, meters, events)
        roll_up(store, meters, 0, LATER)
        take_back(store, meters, events[3:], LATER + 5)
        for upto in (LATER, LATER + 9):
            for meter in meters:
                query = a_query(meter, as_of_us=LATER + 9)
                found = store.usage_from_rollups(query, rolled_up_to_us=upto, rows_max=1)
                if meter.aggregation in (Aggregation.MIN, Aggregation.MAX):
                    assert found is None
                    continue
                expected = {Aggregation.COUNT: 3, Aggregation.SUM: 6, Aggregation.AVERAGE: 2}
                assert found is not None
                assert found[0].value == expected[meter.aggregation]
            if upto == LATER:
                roll_up(store, meters, LATER, LATER + 9)
        assert store.rolled_up() == {m.id: (7, 2) for m in meters}
        take_back(store, meters, events[:3], LATER + 10, token="rest")
        query = a_query(meters[0], as_of_us=LATER + 10)
        assert store.usage_from_rollups(query, rolled_up_to_us=LATER + 9, rows_max=1) == []

    def test_a_plan_is_made_of_bounded_chunks(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rollups, "CHUNK_READINGS", 10)
        meter = a_meter(Aggregation.COUNT)
        times = [-(10**15), *range(NOON, NOON + 90 * HOUR, HOUR), NOON + 400 * DAY, NOON + 800 * DAY]
        record(store, [meter], [an_event(i + 1, time_us=t) for i, t in enumerate(times)])
        plan = store.rollup_plan([meter], after_us=0, through_us=LATER)
        assert plan.readings == {1: 93}
        assert len(plan.chunks) >= 9
        assert all(a.to_us <= b.from_us for a, b in zip(plan.chunks, plan.chunks[1:], strict=False))
        for number, chunk in enumerate(plan.chunks):
            store.build_rollups([meter], after_us=0, through_us=LATER, chunk=chunk, token=f"{number}")
        assert store.rolled_up() == {1: (93, 0)}
        query = a_query(meter, (-2 * 10**15, LATER))
        assert store.usage_from_rollups(query, rolled_up_to_us=LATER, rows_max=1) == store.usage(
            query, rows_max=1
        )

    @pytest.fixture
    def examples(self) -> int:
        return 25

    def test_answers_equal_those_from_readings(self, store: Store, examples: int) -> None:
        @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(data=st.data())
        def check(data: st.DataObject) -> None:
            tenant = f"t{store.counts()['readings']}-{store.counts()['rollups']}-{np.random.randint(2**31)}"
            events = data.draw(some_events(tenant))
            assume(events)
            meters = [a_meter(one, id=int(np.random.randint(1, 2**31)), tenant=tenant) for one in ROLLED]
            record(store, meters, events, token=tenant)
            taken = data.draw(st.lists(st.sampled_from(events), max_size=3, unique_by=lambda e: e.position))
            last = events[-1].recorded_at_us
            take_back(store, meters, taken, last + data.draw(st.integers(1, 2)), token=tenant)
            cut = data.draw(st.integers(events[0].recorded_at_us - 1, last + 2))
            half = data.draw(st.integers(events[0].recorded_at_us - 1, cut))
            span_hours = data.draw(st.sampled_from([1, 24]))
            whole: dict[int, tuple[int, int]] = {}
            for view in RollupView:
                roll_up(store, meters, 0, half, token=f"{tenant}:1", span_hours=span_hours, view=view)
                roll_up(store, meters, half, cut, token=f"{tenant}:2", span_hours=span_hours, view=view)
                whole = whole or store.rolled_up(view)
                for meter in meters:
                    assert store.rolled_up(view).get(meter.id) == whole.get(meter.id)
            for meter in meters:
                asked = data.draw(some_question(meter, events))
                if asked.as_of_us is not None:
                    asked = replace(asked, as_of_us=max(cut, asked.as_of_us))
                for view in RollupView:
                    found = store.usage_from_rollups(
                        asked, rolled_up_to_us=cut, rows_max=100_000, span_hours=span_hours, view=view
                    )
                    assert found is None or view in views(asked)
                    if found is not None:
                        assert found == store.usage(asked, rows_max=100_000)

        check()

    def test_a_view_has_the_rows_of_what_it_is_divided_by(self, store: Store) -> None:
        meter = a_meter()
        events = [
            an_event(i, customer=f"c{i % 5}", data=f'{{"n":{i},"model":"m{i % 3}"}}'.encode())
            for i in range(1, 31)
        ]
        record(store, [meter], events)
        rows = {RollupView.WHOLE: 15, RollupView.CUSTOMERS: 5, RollupView.DIMENSIONS: 3}
        for view, expected in rows.items():
            roll_up(store, [meter], 0, LATER, view=view)
            assert store.rollup_rows([1], view) == store.rollup_groups([1], view) == {1: expected}
        by_model = a_query(meter, group_by=("model",), as_of_us=LATER)
        by_customer = a_query(meter, group_by=("customer",), customers=("c1", "c2"), as_of_us=LATER)
        by_both = a_query(meter, group_by=("customer", "model"), as_of_us=LATER)
        for query, held in (
            (by_model, {RollupView.DIMENSIONS, RollupView.WHOLE}),
            (by_customer, {RollupView.CUSTOMERS, RollupView.WHOLE}),
            (by_both, {RollupView.WHOLE}),
            (replace(by_model, customers=("c1",)), {RollupView.WHOLE}),
            (replace(by_customer, group_by=("subject",)), set[RollupView]()),
            (a_query(meter, as_of_us=LATER), set(RollupView)),
        ):
            expected_rows = store.usage(query, rows_max=99)
            answers = {
                view: store.usage_from_rollups(query, rolled_up_to_us=LATER, rows_max=99, view=view)
                for view in RollupView
            }
            assert {view for view, found in answers.items() if found is not None} == held
            assert all(answers[view] == expected_rows for view in held)
        store.delete_rollups([1], RollupView.CUSTOMERS)
        assert store.rolled_up(RollupView.CUSTOMERS) == {}
        assert store.rolled_up()[1] == store.rolled_up(RollupView.DIMENSIONS)[1] == (30, 0)
        store.delete_rollups(None)
        assert all(store.rolled_up(view) == {} for view in RollupView)

    def test_sums_of_roll_ups_are_exact(self, store: Store) -> None:
        meter = a_meter()
        big = b'{"n":99999999999999999999.999999999999999999}'
        record(store, [meter], [an_event(i, data=big) for i in range(1, 31)])
        roll_up(store, [meter], 0, LATER)
        rows = store.usage_from_rollups(a_query(meter), rolled_up_to_us=LATER, rows_max=1)
        assert rows is not None
        assert rows[0].value == Decimal("2999999999999999999999.99999999999999997")
