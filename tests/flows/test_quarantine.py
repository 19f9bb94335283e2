"""A release from quarantine survives what breaks, and happens once."""

import asyncio
from decimal import Decimal

from tallystick.catalog.interface import SYSTEM, CustomerChange
from tallystick.errors import Unavailable
from tallystick.flows.doctor import examine

from .conftest import Make
from .rig import NOW_US, Rig, event, eventually


def test_a_release_that_is_cut_short_is_repeated_to_the_same_customer(make_rig: Make) -> None:
    async def scene(rig: Rig) -> None:
        rig.meter()
        await rig.record(*(event(number, subject="who") for number in range(5)), event("k", subject="else"))
        assert await rig.total() is None
        broken = 0

        def on_step(step: str) -> None:
            nonlocal broken
            if step == "action" and broken < 2:
                broken += 1
                # Meanwhile the subject moves on: the log has named the customer, and it stays so.
                if broken == 1:
                    rig.system.catalog.create_customer(
                        "default",
                        "later",
                        CustomerChange(subjects=["who"]),
                        reassign=True,
                        actor=SYSTEM,
                        now_us=NOW_US,
                    )
                raise Unavailable("broken (test)")

        rig.on_step = on_step
        catalog = rig.system.catalog
        catalog.create_customer(
            "default", "acme", CustomerChange(subjects=["who"]), actor=SYSTEM, now_us=NOW_US
        )
        await rig.system.quarantine.settle()

        async def released() -> bool:
            return await rig.total() == Decimal(5)

        await eventually(released, "released")
        assert broken == 2
        assert {one.customer for one in rig.stored() if one.customer} == {"acme"}
        await rig.record(event("n", subject="who"))
        rows = (await rig.usage(group_by=("customer",))).rows
        assert [(row.group, row.value) for row in rows] == [(("acme",), 5), (("later",), 1)]
        end = rig.system.log.end
        await rig.system.quarantine.settle()
        await rig.restart()  # it looks again, and finds nothing to do
        await rig.settled()
        assert rig.system.log.end == end
        assert (await examine(rig.system, full=True)).findings == ()
        assert rig.recorder.totals.events == 7

    async def whole() -> None:
        rig = make_rig()
        rig.settings = {"unknown_subject": "quarantine"}
        await rig.start()
        try:
            await scene(rig)
        finally:
            await rig.stop()

    asyncio.run(whole())
