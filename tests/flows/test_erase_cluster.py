"""A deleted tenant goes from every partition, whoever records it, while another with the same ids stays whole."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tallystick.catalog.interface import SYSTEM
from tallystick.errors import Unavailable
from tallystick.flows import erase
from tallystick.flows.correct import correct
from tallystick.flows.erase import GRACE_US
from tallystick.metering.position import partition_of

from .rig import NOW_US, Rig, event

PARTITIONS = 4
EVENTS = 40


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "LOOK_S", 0.1)


@pytest.mark.usefixtures("quick")
def test_a_deleted_tenant_is_erased_by_the_recorders_of_all_partitions(make_rig: Callable[[], Rig]) -> None:
    async def scene() -> None:
        rig = make_rig()
        rig.settings["partitions"] = PARTITIONS
        await rig.start()
        try:
            await delete_and_look(rig)
        finally:
            await rig.stop()

    asyncio.run(scene())


async def delete_and_look(rig: Rig) -> None:
    catalog = rig.system.catalog
    catalog.create_tenant("gone", "Gone", actor=SYSTEM, now_us=NOW_US)
    for tenant in ("gone", "default"):
        rig.meter(tenant)
        positions = await rig.append(*(event(number) for number in range(EVENTS)), tenant=tenant)
        assert {partition_of(each) for each in positions.tolist()} == set(range(PARTITIONS))
        await rig.record(event(0), event(2, data={"n": 9}), tenant=tenant)  # a duplicate, a conflict
        await correct(rig.system, tenant, reason="r", actor=SYSTEM, retract=[("/s", "4")], replacements=None)
    await rig.settled()
    broken: set[str] = set()

    def break_once(step: str) -> None:
        if step in ("forgotten", "forgetting") and step not in broken:
            broken.add(step)
            rig.clock.advance(seconds=1)  # a step repeated within a microsecond would bear the same token
            raise Unavailable("broken (test)")

    catalog.delete_tenant("gone", actor=SYSTEM, now_us=rig.clock.now_us())
    rig.on_step = break_once
    await asyncio.sleep(0.3)
    assert len(rig.stored("gone")) == EVENTS  # requests may be under way
    rig.clock.advance(seconds=GRACE_US / 1e6 + 1)
    await until_erased(rig, broken)
    assert rig.stored("gone") == []
    assert len({one.id for one in rig.stored("default")}) == EVENTS
    assert await rig.total() == EVENTS - 1
    counts = rig.system.store.counts()
    names = ("events", "duplicates", "conflicts", "corrections", "forgotten")
    assert [counts[name] for name in names] == [EVENTS, 1, 1, 1, EVENTS]
    (told,) = [row.after for row in catalog.audit("default").items if row.action == "tenant.export"]
    assert told is not None
    assert pq.read_table(Path(str(told["place"])) / "events.parquet").num_rows == EVENTS
    # What is known of the erased ones is that they were there.
    await rig.restart(lambda: [rig.delete(f"identity-{each}") for each in range(PARTITIONS)])
    again = await rig.record(*(event(number) for number in range(EVENTS)), tenant="gone")
    assert again.duplicates == list(range(EVENTS))


async def until_erased(rig: Rig, broken: set[str]) -> None:
    """Over a restart in the middle."""
    restarted = False
    for _ in range(2400):
        if not rig.system.catalog.tenants_to_erase():
            assert broken == {"forgotten", "forgetting"}
            assert restarted
            return
        if broken and not restarted:
            restarted = True
            await rig.restart()
        await asyncio.sleep(0.05)
    raise AssertionError("The tenant is not erased.")
