"""What every catalog does with backfills; see contract.py for the fixtures."""

import pytest

from tallystick.catalog.interface import (
    BACKFILL_COUNTS,
    BACKFILL_STEPS,
    BACKFILLS_OPEN_MAX,
    Backfill,
    BackfillRange,
    BackfillState,
    Catalog,
)
from tallystick.errors import Conflict, Invalid, NotFound

from .contract import ANN, HOUR_US, NOW_US, ODD_TEXTS, T, code_of, everything, race

NONE_YET = dict.fromkeys(BACKFILL_COUNTS, 0)
WAY: dict[BackfillState, tuple[BackfillState, ...]] = {
    "open": (),
    "closing": ("closing",),
    "closed": ("closing", "closed"),
    "reverting": ("closing", "closed", "reverting"),
    "reverted": ("closing", "closed", "reverting", "reverted"),
}


def opened(catalog: Catalog, key: str = "july", *, replace: BackfillRange | None = None) -> Backfill:
    return catalog.create_backfill(
        T, key, reason="lost a day", author="ann", replace=replace, actor=ANN, now_us=NOW_US
    )


def brought_to(catalog: Catalog, state: BackfillState, key: str = "july") -> Backfill:
    at = opened(catalog, key)
    for step in WAY[state]:
        at = catalog.advance_backfill(T, key, to_state=step, now_us=NOW_US + 1)
    return at


class BackfillsContract:
    @pytest.mark.parametrize(
        "replace",
        [
            None,
            BackfillRange(NOW_US - HOUR_US, NOW_US),
            BackfillRange(-5, 2**55, type="llm", customer="acme"),
        ],
    )
    def test_what_is_opened_is_kept(
        self, catalog: Catalog, other: Catalog, replace: BackfillRange | None
    ) -> None:
        made = opened(catalog, replace=replace)
        assert made == Backfill(T, "july", "lost a day", "ann", replace, "open", NONE_YET, NOW_US)
        assert other.backfill(T, "july") == made
        assert other.backfills(T).items == (made,)

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_texts_are_kept_letter_for_letter(self, catalog: Catalog, text: str) -> None:
        replace = BackfillRange(0, 1, type=text, customer=text)
        catalog.create_backfill(T, "odd", reason=text, author=text, replace=replace, actor=ANN, now_us=NOW_US)
        kept = catalog.backfill(T, "odd")
        assert (kept.reason, kept.author, kept.replace) == (text, text, replace)

    def test_a_key_is_taken_once_a_tenant(self, catalog: Catalog, other: Catalog) -> None:
        catalog.create_tenant("elsewhere", "E", actor=ANN, now_us=NOW_US)
        results = race(*[lambda c=c: opened(c) for c in (catalog, other, catalog)])
        assert [error.code for error in results if isinstance(error, Conflict)] == ["backfill_exists"] * 2
        catalog.create_backfill(
            "elsewhere", "july", reason="r", author="a", replace=None, actor=ANN, now_us=NOW_US
        )
        with pytest.raises(NotFound) as error:
            catalog.backfill(T, "august")
        assert code_of(error) == "backfill_not_found"

    @pytest.mark.parametrize("to_state", list(BACKFILL_STEPS))
    @pytest.mark.parametrize("state", list(BACKFILL_STEPS))
    def test_it_goes_where_it_may_and_nowhere_else(
        self, catalog: Catalog, state: BackfillState, to_state: BackfillState
    ) -> None:
        before = brought_to(catalog, state)
        assert before.state == state
        if to_state == state:
            assert catalog.advance_backfill(T, "july", to_state=state, now_us=NOW_US + 9) == before
        elif to_state in BACKFILL_STEPS[state]:
            assert catalog.advance_backfill(T, "july", to_state=to_state, now_us=NOW_US + 9).state == to_state
        else:
            with pytest.raises(Conflict) as error:
                catalog.advance_backfill(T, "july", to_state=to_state, now_us=NOW_US + 9)
            reverts = to_state in ("reverting", "reverted")
            assert code_of(error) == ("backfill_not_closed" if reverts else "backfill_not_open")
            assert catalog.backfill(T, "july") == before

    def test_moments_are_those_of_the_steps(self, catalog: Catalog) -> None:
        opened(catalog)
        for moment, step in enumerate(WAY["reverted"], 1):
            catalog.advance_backfill(T, "july", to_state=step, now_us=NOW_US + moment)
            catalog.advance_backfill(T, "july", to_state=step, now_us=NOW_US + 100 + moment)
        done = catalog.backfill(T, "july")
        assert (done.opened_at_us, done.closed_at_us, done.reverted_at_us) == (NOW_US, NOW_US + 2, NOW_US + 4)

    def test_counts_are_set_by_name_and_setting_them_again_changes_nothing(self, catalog: Catalog) -> None:
        opened(catalog)
        for _ in range(2):
            catalog.advance_backfill(T, "july", to_state="open", counts={"staged": 7}, now_us=NOW_US)
        assert catalog.backfill(T, "july").counts == {**NONE_YET, "staged": 7}
        for _ in range(2):
            closed = catalog.advance_backfill(
                T, "july", to_state="closed", counts={"recorded": 5, "duplicates": 2}, now_us=NOW_US
            )
        assert closed.counts == {**NONE_YET, "staged": 7, "recorded": 5, "duplicates": 2}
        with pytest.raises(ValueError, match="no counts"):
            catalog.advance_backfill(T, "july", to_state="closed", counts={"other": 1}, now_us=NOW_US)
        with pytest.raises(NotFound):
            catalog.advance_backfill(T, "none", to_state="closed", now_us=NOW_US)

    def test_of_racing_steps_one_leaves_a_row(self, catalog: Catalog, other: Catalog) -> None:
        opened(catalog)

        def close(c: Catalog) -> Backfill:
            return c.advance_backfill(T, "july", to_state="closing", actor=ANN, now_us=NOW_US)

        states = [found.state for found in race(*[lambda c=c: close(c) for c in (catalog, other, catalog)])]
        assert states == ["closing"] * 3
        assert [row.action for row in catalog.audit(T).items] == ["backfill.closing", "backfill.open"]

    def test_an_open_one_can_be_discarded_and_its_key_used_again(self, catalog: Catalog) -> None:
        made = opened(catalog)
        assert catalog.discard_backfill(T, "july", actor=ANN, now_us=NOW_US) == made
        with pytest.raises(NotFound):
            catalog.discard_backfill(T, "july", actor=ANN, now_us=NOW_US)
        brought_to(catalog, "closing")
        with pytest.raises(Conflict) as error:
            catalog.discard_backfill(T, "july", actor=ANN, now_us=NOW_US)
        assert code_of(error) == "backfill_not_open"
        rows = catalog.audit(T).items
        assert [(row.action, row.actor) for row in rows[-2:]] == [
            ("backfill.discard", "ann"),
            ("backfill.open", "ann"),
        ]
        assert rows[-2].after is None
        assert rows[-2].before is not None
        assert rows[-2].before["state"] == "open"

    def test_the_list_is_newest_first_and_paged(self, catalog: Catalog) -> None:
        for key in ("a", "b", "c", "d", "e"):
            opened(catalog, key)
        catalog.advance_backfill(T, "c", to_state="closed", now_us=NOW_US)
        assert [b.key for b in everything(lambda c: catalog.backfills(T, limit=2, cursor=c))] == list("edcba")
        assert [b.key for b in catalog.backfills(T, state="closed").items] == ["c"]
        assert catalog.backfills("elsewhere").items == ()
        for refused in ({"limit": 0}, {"cursor": catalog.audit(T, limit=1).next_cursor}):
            with pytest.raises(Invalid):
                catalog.backfills(T, **refused)

    def test_how_many_are_open_is_bounded(self, catalog: Catalog) -> None:
        for number in range(BACKFILLS_OPEN_MAX):
            opened(catalog, f"b{number}")
        with pytest.raises(Conflict) as error:
            opened(catalog)
        assert code_of(error) == "too_many_backfills"
        catalog.advance_backfill(T, "b0", to_state="closed", now_us=NOW_US)
        assert opened(catalog).state == "open"

    def test_a_backfill_is_no_news_for_who_watches_meters_subjects_or_keys(self, catalog: Catalog) -> None:
        topics = ("meters", "subjects", "keys")
        before, all_before = [catalog.revision(topic) for topic in topics], catalog.revision()
        opened(catalog)
        assert [catalog.revision(topic) for topic in topics] == before
        assert catalog.revision() == all_before + 1
