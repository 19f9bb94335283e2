"""Views and reports in a catalog: who sees what, and that a due moment is written once however many have worked it out."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tallystick.catalog.delivering import DeliverySearch, Setup
from tallystick.catalog.reporting import FILES_KEPT, KeptReport, NewRun, Reader, ReportFile
from tallystick.errors import Conflict, Forbidden, NotFound

from .contract import ANN, NOW_US, T

ANNA, BEN = Reader("person/ann", "ann", sees_all=False), Reader("key/key_2", "ben", sees_all=False)
ADMIN = Reader("key/key_0", "admin", sees_all=True)
FILE = ReportFile("r.csv", "text/csv", b"a,b\r\n1,\x00\r\n")


def view(catalog: Any, key: str, *, shared: bool = False, reader: Reader = ANNA) -> Any:
    content = f'{{"key":"{key}"}}'
    return catalog.create_view(T, key, content, shared=shared, reader=reader, actor=ANN, now_us=NOW_US)


def report(catalog: Any, key: str = "r", due_us: int | None = NOW_US) -> KeptReport:
    content = '{"channel":"ops"}'
    return catalog.create_report(T, key, "v", content, next_due_us=due_us, actor=ANN, now_us=NOW_US)


def run_of(name: str, *, kind: Any = "scheduled", due_us: int = NOW_US) -> NewRun:
    return NewRun(name, kind, due_us, due_us, 0, "Tokens: 5", "/explore", "/file", "ops", FILE, 1, 2)


def channel(catalog: Any) -> None:
    setup = Setup(type="webhook", name="ops", url="https://example.com/")
    catalog.create_channel(T, "ops", setup, customer=None, secret=None, actor=ANN, now_us=NOW_US)


class ReportsContract:
    def test_who_sees_a_view(self, catalog: Any) -> None:
        view(catalog, "mine")
        view(catalog, "ours", shared=True)
        view(catalog, "bens", reader=BEN)

        def seen(reader: Reader) -> list[str]:
            return [one.key for one in catalog.views(T, reader=reader).items]

        assert (seen(ANNA), seen(BEN)) == (["mine", "ours"], ["bens", "ours"])
        assert seen(ADMIN) == ["bens", "mine", "ours"]
        with pytest.raises(NotFound):
            catalog.view(T, "mine", reader=BEN)
        values: Any = {"expected": lambda _: None, "actor": ANN, "now_us": NOW_US}
        with pytest.raises(Forbidden):
            catalog.change_view(T, "ours", "{}", shared=True, reader=BEN, **values)
        with pytest.raises(NotFound):
            catalog.archive_view(T, "mine", reader=BEN, **values)
        catalog.archive_view(T, "mine", reader=ANNA, **values)
        with pytest.raises(Conflict):
            view(catalog, "ours")
        assert view(catalog, "mine", reader=BEN).owner == BEN.owner, "an archived one's key is free"
        first = catalog.views(T, reader=ADMIN, limit=2)
        rest = catalog.views(T, reader=ADMIN, limit=2, cursor=first.next_cursor)
        assert [one.key for one in (*first.items, *rest.items)] == ["bens", "mine", "ours"]

    def test_a_due_moment_is_written_once(self, catalog: Any, other: Any) -> None:
        view(catalog, "v", shared=True)
        channel(catalog)
        kept = report(catalog)
        assert [one.key for one in other.due_reports(NOW_US)] == ["r"]
        assert other.due_reports(NOW_US - 1) == ()
        assert other.next_report_due_us() == NOW_US

        def write(by: Any) -> str | None:
            return by.write_run(kept, run_of("rrun_1"), next_due_us=NOW_US + 60, now_us=NOW_US)

        with ThreadPoolExecutor(4) as threads:
            written = list(threads.map(write, (catalog, other, catalog, other)))
        assert sorted(written, key=str) == [None, None, None, "rrun_1"]
        [run] = catalog.report_runs(kept).items
        assert (run.status, run.file_bytes, run.has_file) == ("sent", len(FILE.content), True)
        [delivery] = catalog.deliveries(T, DeliverySearch()).items
        assert (delivery.id, delivery.kind) == (run.delivery, "report.ready")
        assert catalog.report_file(T, "rrun_1") == FILE
        assert catalog.report_file("another", "rrun_1") is None
        assert catalog.report(T, "r", reader=BEN).next_due_us == NOW_US + 60

    def test_what_was_changed_meanwhile_is_not_sent_as_it_was(self, catalog: Any) -> None:
        view(catalog, "v", shared=True)
        channel(catalog)
        kept = report(catalog)
        catalog.change_report(
            T,
            "r",
            "v",
            '{"channel":"other"}',
            next_due_us=NOW_US,
            reader=ANNA,
            expected=lambda _: None,
            actor=ANN,
            now_us=NOW_US,
        )
        assert catalog.write_run(kept, run_of("rrun_1"), next_due_us=NOW_US + 1, now_us=NOW_US) is None
        assert catalog.deliveries(T, DeliverySearch()).items == ()

    def test_a_clock_that_was_put_back_sends_nothing_twice(self, catalog: Any) -> None:
        view(catalog, "v", shared=True)
        channel(catalog)
        kept = report(catalog)
        run = run_of("rrun_1")
        assert catalog.write_run(kept, run, next_due_us=NOW_US, now_us=NOW_US) == "rrun_1"
        assert catalog.write_run(kept, run, next_due_us=NOW_US + 5, now_us=NOW_US) is None
        assert len(catalog.report_runs(kept).items) == 1
        assert catalog.due_reports(NOW_US) == (), "it is moved on"

    def test_runs_and_files_have_an_end(self, catalog: Any) -> None:
        view(catalog, "v", shared=True)
        kept = report(catalog, due_us=None)
        for number in range(FILES_KEPT + 2):
            # No channel: it fails, and is written down with its file.
            run = run_of(f"rrun_{number:03d}", kind="manual")
            catalog.write_run(kept, run, next_due_us=None, now_us=NOW_US)
        runs = catalog.report_runs(kept, limit=200).items
        assert [one.has_file for one in runs] == [True] * FILES_KEPT + [False, False]
        assert {(one.status, one.error) for one in runs} == {("failed", "unknown_channel")}
        with pytest.raises(NotFound):
            catalog.report_run(replace(kept, id="another"), "rrun_000")

    def test_a_view_that_is_sent_stays(self, catalog: Any) -> None:
        view(catalog, "v", shared=True)
        report(catalog)
        values: Any = {"reader": ANNA, "expected": lambda _: None, "actor": ANN, "now_us": NOW_US}
        with pytest.raises(Conflict):
            catalog.archive_view(T, "v", **values)
        catalog.archive_report(T, "r", **values)
        with pytest.raises(NotFound):
            catalog.report(T, "r", reader=ANNA)
        catalog.archive_view(T, "v", **values)
        assert catalog.due_reports(NOW_US) == ()
