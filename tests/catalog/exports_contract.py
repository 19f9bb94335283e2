"""Continuous exports in a catalog: how far one is moves only from where it was read, invoices come in one order, each once."""

from typing import Any

import msgspec
import pytest

from tallystick.catalog.exporting import (
    EXPORTS_PER_TENANT_MAX,
    ExportSetup,
    ExportState,
    InvoicePlace,
    KeptExport,
)
from tallystick.errors import Conflict, NotFound

from .billing_contract import closing, subscribed
from .contract import ANN, NOW_US

T = "default"
SETUP = ExportSetup(what="usage", url="s3://lake", every_s=60)


def made(catalog: Any, key: str = "a", setup: ExportSetup = SETUP) -> KeptExport:
    return catalog.create_export(T, key, setup, name=f"id-{key}", actor=ANN, now_us=NOW_US)


class ExportsContract:
    def test_a_state_moves_only_from_where_it_was_read(self, catalog: Any) -> None:
        first = made(catalog)
        assert catalog.due_exports(NOW_US - 1, limit=10) == []
        assert catalog.due_exports(NOW_US, limit=10) == [first]
        state = msgspec.structs.replace(first.state, number=1, to_us=NOW_US, meters={"7": 2**62})
        moved = catalog.advance_export(first, state, due_at_us=NOW_US + 60)
        assert moved.state == state
        assert catalog.advance_export(first, ExportState(), due_at_us=0) is None
        assert catalog.export(T, "a") == moved
        assert catalog.due_exports(NOW_US, limit=10) == []
        hurried = catalog.hurry_export(T, "a", now_us=NOW_US)
        assert (hurried.state, hurried.due_at_us) == (state, NOW_US)
        assert catalog.advance_export(moved, state, due_at_us=0) is None

    def test_one_that_is_deleted_or_made_again_is_another(self, catalog: Any) -> None:
        first = made(catalog)
        with pytest.raises(Conflict):
            made(catalog)
        catalog.delete_export(T, "a", actor=ANN, now_us=NOW_US)
        again = catalog.create_export(T, "a", SETUP, name="other", actor=ANN, now_us=NOW_US)
        assert catalog.advance_export(first, ExportState(number=9), due_at_us=0) is None
        assert catalog.export(T, "a") == again
        with pytest.raises(NotFound):
            catalog.delete_export(T, "b", actor=ANN, now_us=NOW_US)

    def test_paused_ones_are_not_due(self, catalog: Any) -> None:
        made(catalog)

        def paused(present: KeptExport) -> ExportSetup:
            return msgspec.structs.replace(present.setup, paused=True)

        changed = catalog.change_export(T, "a", paused, actor=ANN, now_us=NOW_US)
        assert changed.setup.paused
        assert catalog.due_exports(NOW_US, limit=10) == []
        assert catalog.change_export(T, "a", paused, actor=ANN, now_us=NOW_US + 1) == changed

    def test_pages_and_bounds_of_exports(self, catalog: Any) -> None:
        for number in range(EXPORTS_PER_TENANT_MAX):
            made(catalog, f"k{number:03d}")
        with pytest.raises(Conflict):
            made(catalog, "more")
        seen: list[str] = []
        cursor = None
        while True:
            page = catalog.exports(T, cursor=cursor, limit=33)
            seen += [one.key for one in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == [f"k{number:03d}" for number in range(EXPORTS_PER_TENANT_MAX)]
        assert catalog.exports("another").items == ()

    def test_invoices_in_the_order_they_became_final_then_void(self, catalog: Any) -> None:
        one = subscribed(catalog)
        assert catalog.invoice_end(T) == InvoicePlace()
        catalog.keep_invoices([closing(one, number) for number in (1, 2, 3)], now_us=NOW_US)
        draft = closing(one, 4, "grace")
        catalog.keep_invoices([draft], now_us=NOW_US)
        catalog.void_invoice(T, f"inv_{one.id}_2", actor=ANN, now_us=NOW_US + 5)
        end = catalog.invoice_end(T)
        assert end.sequence == 3
        found: list[tuple[int | None, int]] = []
        place = InvoicePlace()
        while place != end:
            some, place = catalog.invoice_changes(T, place, end, limit=2)
            found += [(change.invoice.sequence, change.sign) for change in some]
        assert found == [(1, 1), (2, 1), (3, 1), (2, -1)]
        catalog.void_invoice(T, f"inv_{one.id}_1", actor=ANN, now_us=NOW_US + 6)
        later = catalog.invoice_end(T)
        some, place = catalog.invoice_changes(T, end, later, limit=10)
        assert [(change.invoice.sequence, change.sign, change.at_us) for change in some] == [
            (1, -1, NOW_US + 6)
        ]
        assert some[0].invoice.status == "void"
        while place != later:
            some, place = catalog.invoice_changes(T, place, later, limit=10)
            assert some == []
