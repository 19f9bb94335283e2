"""Channels and deliveries in a catalog: who is told, the fence, the order, what ends what is pending."""

import contextlib
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tallystick.catalog.delivering import (
    EVENT_KIND,
    Attempt,
    Channel,
    DeliverySearch,
    FeedMovedError,
    Notice,
    Setup,
    Verdict,
)
from tallystick.catalog.interface import Catalog
from tallystick.catalog.notices import enqueue
from tallystick.errors import Conflict, NotFound

from .contract import ANN, NOW_US, code_of, new, race

TENANT = "default"
S = 1_000_000
HOOK = Setup(type="webhook", name="Hook", url="https://example.com/hook", signature="hmac")
NOTICE = Notice(
    tenant=TENANT,
    id="trn_1",
    kind="alert.fired",
    summary="tokens of acme are at 80 %",
    data={"alert": "a", "value": "80"},
    at_us=NOW_US,
    customer="acme",
    channels=("hook",),
)


def slots(channel: Channel) -> int:
    return 1 if channel.setup.ordered else 4


def attempt(number: int, *, error: str | None = None) -> Attempt:
    return Attempt(number, NOW_US, 5, "https://example.com/hook", {"webhook-id": "x"}, 200, error=error)


class DeliveriesContract:
    @pytest.fixture
    def outbox(self, catalog: Catalog) -> Any:
        catalog.create_customer(TENANT, "group", new(), actor=ANN, now_us=NOW_US)
        catalog.create_customer(TENANT, "acme", new(parent="group"), actor=ANN, now_us=NOW_US)
        catalog.create_customer(TENANT, "other", new(), actor=ANN, now_us=NOW_US)
        return catalog

    def add(self, outbox: Any, key: str, setup: Setup = HOOK, *, customer: str | None = None) -> Channel:
        return outbox.create_channel(
            TENANT, key, setup, customer=customer, secret="sealed", actor=ANN, now_us=NOW_US
        )

    def take(self, outbox: Any, at_us: int = NOW_US, busy: dict[int, int] | None = None) -> list[Any]:
        found = outbox.take_deliveries(busy or {}, slots, until_us=at_us + 30 * S, limit=100, now_us=at_us)
        return [delivery for delivery, _ in found.items]

    def test_a_place_among_events_moves_with_what_is_enqueued(self, outbox: Any) -> None:
        self.add(outbox, "all", replace_events("*"))
        wanted = replace_events("event")
        made = self.add(outbox, "feed", wanted)
        (feed,) = outbox.feeds()
        assert (feed.channel.key, feed.moment_us, feed.position) == ("feed", NOW_US, None)
        notices = [
            replace(NOTICE, id=f"evt_{number}", kind=EVENT_KIND, channels=("feed",), only_named=True)
            for number in range(2)
        ]
        moved = outbox.advance_feed(feed, NOW_US + 5, 2**64 - 2, notices, now_us=NOW_US)
        assert (outbox.feeds(), outbox.pending_of(made.number)) == ((moved,), 2)
        assert moved.position == 2**64 - 2
        with pytest.raises(FeedMovedError):  # by who has read the place before
            outbox.advance_feed(feed, NOW_US + 9, None, [replace(notices[0], id="evt_9")], now_us=NOW_US)
        assert outbox.pending_of(made.number) == 2

        def change(setup: Setup, recorded_us: int) -> None:
            outbox.change_channel(TENANT, "feed", setup, recorded_us=recorded_us, actor=ANN, now_us=NOW_US)

        change(msgspec.structs.replace(wanted, name="Else"), NOW_US + 50)
        assert outbox.feeds()[0].moment_us == NOW_US + 5
        change(msgspec.structs.replace(wanted, enabled=False), NOW_US + 60)
        assert outbox.feeds() == ()
        change(wanted, NOW_US + 70)
        assert [one.moment_us for one in outbox.feeds()] == [NOW_US + 70]
        outbox.delete_channel(TENANT, "feed", actor=ANN, now_us=NOW_US)
        assert outbox.feeds() == ()

    def test_news_goes_to_who_is_named_and_to_who_subscribes_once_each(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        self.add(outbox, "all", replace_events("*"))
        self.add(outbox, "alerts", replace_events("alert.*"))
        self.add(outbox, "invoices", replace_events("invoice.*"))
        self.add(outbox, "of-group", replace_events("alert.fired"), customer="group")
        self.add(outbox, "of-other", replace_events("alert.fired"), customer="other")
        first = outbox.enqueue(NOTICE, now_us=NOW_US)
        assert outbox.enqueue(replace(NOTICE, channels=("hook", "hook")), now_us=NOW_US + 1) == first
        found = outbox.deliveries(TENANT, DeliverySearch()).items
        assert {one.channel for one in found} == {"hook", "all", "alerts", "of-group"}
        assert {one.id for one in found} == set(first)
        assert len({one.body for one in found}) == 1
        only = outbox.enqueue(replace(NOTICE, id="test", only_named=True), now_us=NOW_US)
        assert len(only) == 1
        about_all = outbox.enqueue(
            replace(NOTICE, id="x", customer=None, channels=("of-group",)), now_us=NOW_US
        )
        assert len(about_all) == 2, "a customer's channel is told of nothing but the customer"

    def test_it_is_a_part_of_the_callers_transaction(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        told: list[int] = []
        outbox.on_enqueued(lambda: told.append(1))
        with contextlib.suppress(RuntimeError), outbox._database.writing() as connection:
            enqueue(connection, NOTICE, now_us=NOW_US)
            raise RuntimeError
        assert (outbox.delivery_backlog(), told) == (0, [])
        with outbox._database.changing(ANN, NOW_US) as change:
            assert enqueue(change.connection, NOTICE, now_us=NOW_US)
        assert (outbox.delivery_backlog(), told) == (1, [1])

    def test_two_workers_never_take_the_same_and_the_late_one_writes_nothing(
        self, outbox: Any, other: Any
    ) -> None:
        self.add(outbox, "hook")
        for number in range(8):
            outbox.enqueue(replace(NOTICE, id=f"n{number}"), now_us=NOW_US)
        taken: list[Any] = []
        race(
            *(lambda where=where: taken.extend(self.take(where)) for where in (outbox, other, outbox, other))
        )
        assert len(taken) == len({one.id for one in taken}) >= 4
        late = taken[0]
        later_us = NOW_US + 31 * S
        found = outbox.take_deliveries({}, lambda _: 8, until_us=later_us + S, limit=100, now_us=later_us)
        again = {one.id: one for one, _ in found.items}
        # Taken again when the first is given up; what the first has to say then counts for nothing.
        assert late.id in again
        delivered = Verdict("delivered")
        assert not outbox.finish_delivery(late, attempt(1), delivered, now_us=NOW_US)
        assert outbox.finish_delivery(again[late.id], attempt(2), delivered, now_us=NOW_US)
        found = outbox.delivery(TENANT, late.id)
        assert (found.status, found.attempts) == ("delivered", 2)
        assert [one.attempt for one in outbox.delivery_attempts(found)] == [2]

    def test_what_is_given_back_is_due_at_once_unless_another_has_it(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        for number in range(3):
            outbox.enqueue(replace(NOTICE, id=f"n{number}"), now_us=NOW_US)
        mine = self.take(outbox)
        assert len(mine) == 3
        assert outbox.finish_delivery(mine[0], attempt(1), Verdict("delivered"), now_us=NOW_US)
        outbox.give_back_deliveries(mine, now_us=NOW_US + S)
        again = self.take(outbox, NOW_US + S)
        assert {one.id for one in again} == {one.id for one in mine[1:]}
        outbox.give_back_deliveries(mine, now_us=NOW_US + S)  # by whoever has them no longer
        assert self.take(outbox, NOW_US + S) == []

    def test_a_retry_comes_when_it_is_due(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        outbox.enqueue(NOTICE, now_us=NOW_US)
        [first] = self.take(outbox)
        retry = Verdict("pending", due_at_us=NOW_US + 5 * S)
        assert outbox.finish_delivery(first, attempt(1, error="status"), retry, now_us=NOW_US)
        found = outbox.take_deliveries({}, slots, until_us=0, limit=9, now_us=NOW_US + S)
        assert (found.items, found.next_due_us) == ((), NOW_US + 5 * S)
        [second] = self.take(outbox, NOW_US + 5 * S)
        assert (second.id, second.body, second.retries) == (first.id, first.body, 1)

    def test_an_ordered_channel_holds_back_what_is_behind(self, outbox: Any) -> None:
        self.add(outbox, "hook", msgspec.structs.replace(HOOK, ordered=True))
        names = [outbox.enqueue(replace(NOTICE, id=f"n{n}"), now_us=NOW_US)[0] for n in range(3)]
        [first] = self.take(outbox)
        assert first.id == names[0]
        assert self.take(outbox) == []
        outbox.finish_delivery(
            first, attempt(1, error="status"), Verdict("pending", NOW_US + 5 * S), now_us=NOW_US
        )
        assert self.take(outbox, NOW_US + 4 * S) == []
        [again] = self.take(outbox, NOW_US + 5 * S)
        assert again.id == names[0]
        outbox.finish_delivery(again, attempt(2), Verdict("delivered"), now_us=NOW_US)
        assert [one.id for one in self.take(outbox, NOW_US + 5 * S)] == names[1:2]

    def test_a_channel_that_is_gone_or_deleted_is_sent_nothing_more(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        names = [outbox.enqueue(replace(NOTICE, id=f"n{n}"), now_us=NOW_US)[0] for n in range(2)]
        first, second = self.take(outbox)
        gone = Verdict("dead", disable="gone")
        assert outbox.finish_delivery(first, attempt(1, error="gone"), gone, now_us=NOW_US)
        assert outbox.channel(TENANT, "hook").disabled_reason == "gone"
        assert outbox.delivery(TENANT, names[1]).last_error == "channel_disabled"
        assert not outbox.finish_delivery(second, attempt(1), Verdict("delivered"), now_us=NOW_US)
        assert outbox.enqueue(replace(NOTICE, id="later"), now_us=NOW_US) == ()
        assert outbox.audit(TENANT).items[0].action == "channel.disable"
        with pytest.raises(Conflict, match="disabled"):
            outbox.resend_delivery(TENANT, names[0], now_us=NOW_US)
        outbox.change_channel(TENANT, "hook", HOOK, actor=ANN, now_us=NOW_US)
        assert outbox.resend_delivery(TENANT, names[0], now_us=NOW_US).status == "pending"
        assert [one.id for one in self.take(outbox)] == [names[0]]
        outbox.delete_channel(TENANT, "hook", actor=ANN, now_us=NOW_US)
        self.add(outbox, "hook", customer="other")
        with pytest.raises(Conflict, match="deleted"):
            outbox.resend_delivery(TENANT, names[0], now_us=NOW_US)

    def test_owners_see_their_own(self, outbox: Any) -> None:
        self.add(outbox, "hook", customer="acme")
        self.add(outbox, "theirs")
        [mine] = outbox.enqueue(NOTICE, now_us=NOW_US)
        [theirs] = outbox.enqueue(replace(NOTICE, id="t", channels=("theirs",)), now_us=NOW_US)
        found = outbox.deliveries(TENANT, DeliverySearch(owners=("acme",))).items
        assert [one.id for one in found] == [mine]
        assert [one.key for one in outbox.channels(TENANT, customers=("acme",)).items] == ["hook"]
        for read in (outbox.delivery, lambda *a, **k: outbox.resend_delivery(*a, **k, now_us=NOW_US)):
            with pytest.raises(NotFound):
                read(TENANT, theirs, owners=("acme",))

    def test_secrets_are_in_no_audit_and_the_old_one_stays_for_a_while(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        slack = Setup(type="slack", name="S", url="https://hooks.slack.com/services/T0/SECRET")
        outbox.create_channel(TENANT, "slack", slack, customer=None, secret=None, actor=ANN, now_us=NOW_US)
        changed = outbox.change_channel(
            TENANT, "hook", HOOK, secret="newer", overlap_us=S, actor=ANN, now_us=NOW_US
        )
        assert (changed.secret, changed.previous_secret) == ("newer", "sealed")
        assert changed.previous_until_us == NOW_US + S
        written = repr(outbox.audit(TENANT).items) + repr(changed)
        assert "sealed" not in written
        assert "newer" not in written
        assert "SECRET" not in written
        with pytest.raises(Conflict) as refused:
            self.add(outbox, "hook")
        assert code_of(refused) == "channel_exists"

    def test_finished_ones_are_forgotten_after_a_time(self, outbox: Any) -> None:
        self.add(outbox, "hook")
        outbox.enqueue(NOTICE, now_us=NOW_US)
        [taken] = self.take(outbox)
        outbox.enqueue(replace(NOTICE, id="waits"), now_us=NOW_US)
        outbox.finish_delivery(taken, attempt(1), Verdict("delivered"), now_us=NOW_US)
        assert outbox.forget_deliveries(NOW_US) == 0
        assert outbox.forget_deliveries(NOW_US + 1) == 1
        assert [one.notice for one in outbox.deliveries(TENANT, DeliverySearch()).items] == ["waits"]


def replace_events(*events: str) -> Setup:
    return msgspec.structs.replace(HOOK, events=events)
