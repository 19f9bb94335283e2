"""A deleted tenant: written out, then gone, while another with the same ids stays whole."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow.parquet as pq

from tallystick.catalog.interface import SYSTEM, CustomerChange
from tallystick.errors import Unavailable
from tallystick.flows.correct import correct
from tallystick.flows.doctor import examine
from tallystick.flows.erase import GRACE_US, TenantEraser

from .rig import NOW_US, Rig, event

Play = Callable[[Callable[[Rig], Awaitable[None]]], None]


def eraser_of(rig: Rig) -> TenantEraser:
    assert rig.running is not None
    assert rig.running.eraser is not None
    return rig.running.eraser


def test_a_deleted_tenant_is_written_out_and_erased(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        catalog, store = rig.system.catalog, rig.system.store
        catalog.create_tenant("gone", "Gone", actor=SYSTEM, now_us=NOW_US)
        for tenant in ("gone", "default"):
            rig.meter(tenant)
            change = CustomerChange(email="me@example.com", subjects=["acme"])
            catalog.create_customer(tenant, "corp", change, actor=SYSTEM, now_us=NOW_US)
            events = [event(number, type="other" if number % 2 else "call") for number in range(10)]
            await rig.record(*events, tenant=tenant)
            await rig.record(event(0), event(2, data={"n": 9}), tenant=tenant)  # a duplicate, a conflict
            await correct(
                rig.system, tenant, reason="r", actor=SYSTEM, retract=[("/s", "4")], replacements=None
            )
        catalog.delete_tenant("gone", actor=SYSTEM, now_us=rig.clock.now_us())
        eraser = eraser_of(rig)
        assert await eraser.sweep() == 0  # requests may be under way
        rig.clock.advance(seconds=GRACE_US / 1e6 + 1)
        await rig.settled()
        broken = False

        def on_step(step: str) -> None:
            nonlocal broken
            if step == "forgetting" and not broken:
                broken = True
                raise Unavailable("broken (test)")

        rig.on_step = on_step
        try:
            await eraser.sweep()
        except Unavailable:
            await rig.restart()
            eraser = eraser_of(rig)
        catalog, store = rig.system.catalog, rig.system.store
        for _ in range(100):
            if not catalog.tenants_to_erase():
                break
            await eraser.sweep()
        assert broken
        assert rig.stored("gone", "call") == rig.stored("gone", "other") == []
        assert len({one.id for one in rig.stored("default", "call")}) == 5
        assert await rig.total() == 4
        assert catalog.customers("gone", archived=True).items == ()
        assert catalog.subject_map("gone") == {}
        assert len(catalog.customers("default").items) == 1
        counts = store.counts()
        assert (counts["events"], counts["duplicates"], counts["conflicts"], counts["corrections"]) == (
            10,
            1,
            1,
            1,
        )
        assert counts["forgotten"] == 10
        assert (await examine(rig.system, full=True)).findings == ()
        actions = {
            row.action: row.after for row in catalog.audit("default").items if row.resource == "tenant/gone"
        }
        assert {"tenant.delete", "tenant.export", "tenant.erase"} <= actions.keys()
        place = Path(str((actions["tenant.export"] or {})["place"]))
        assert pq.read_table(place / "events.parquet").num_rows == 10
        told = json.loads((place / "configuration.json").read_text())
        assert [one["key"] for one in told["customers"]] == ["corp"]
        assert [one["key"] for one in told["meters"]] == ["m"]
        assert "tenant.delete" in {row["action"] for row in told["audit"]}

    play(scene)


def test_without_an_export_nothing_is_written(play: Play) -> None:
    async def scene(rig: Rig) -> None:
        catalog = rig.system.catalog
        catalog.create_tenant("gone", "Gone", actor=SYSTEM, now_us=NOW_US)
        await rig.record(event(1), tenant="gone")
        catalog.delete_tenant("gone", export=False, actor=SYSTEM, now_us=rig.clock.now_us())
        rig.clock.advance(seconds=GRACE_US / 1e6 + 1)
        await eraser_of(rig).sweep()
        assert catalog.tenants_to_erase() == []
        assert rig.stored("gone") == []
        assert not (rig.directory / "exports").exists()

    play(scene)
