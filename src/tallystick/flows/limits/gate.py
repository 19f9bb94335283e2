"""The gate: one owner of all balances, which decides between two awaits and answers when it is durable.

    used = usage as of a moment (balances.py) + what is settled and not in usage as of that moment (limits/book.py)
    held = what is reserved

Both parts of `used` move on together (`follow`): at the next published moment usage has grown by what was recorded, and what
of it was settled here stands here no longer. So nothing is counted twice, and nothing is missing in between.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace as changed
from decimal import Decimal
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from tallystick.catalog.interface import Page
from tallystick.catalog.limiting import Ledger
from tallystick.catalog.secret import OrderedIds
from tallystick.errors import Fault, Invalid, NotFound, TallystickError, Unavailable
from tallystick.flows.limits.asked import Reserved
from tallystick.flows.limits.balances import Balances
from tallystick.flows.limits.events import columns_of, contributed, given_event, made_events
from tallystick.flows.limits.questions import Questions
from tallystick.flows.limits.receipt import (
    LimitExceeded,
    LimitUnknown,
    receipt_of,
    reserved_document,
    sentence,
)
from tallystick.flows.limits.rules import Ask, Rule, RuleBook
from tallystick.flows.limits.stand import Stands
from tallystick.flows.limits.tide import Tide
from tallystick.flows.limits.usual import Usual
from tallystick.flows.limits.writer import Writer, Written
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.limits import reservation as life
from tallystick.limits.book import Book
from tallystick.limits.limit import Enforce
from tallystick.limits.reservation import Reservation, State
from tallystick.limits.standing import ADDED_UP, UNKNOWN_CLOSED, Decision, Standing, decide
from tallystick.metering.event import EventColumns
from tallystick.metering.meter import Aggregation, Meter
from tallystick.metering.verdict import Limits
from tallystick.money import ZERO, plain

KEPT_US = 90 * 86_400 * 1_000_000
"""What is closed is kept so long, to be answered again."""

_logger = structlog.get_logger("limits")
_encode = msgspec.json.Encoder().encode


class LimitGate:
    """Made by its owner (owner.py) under one ledger; everything is called in the event loop."""

    def __init__(
        self, system: System, questions: Questions, rules: RuleBook, ledger: Ledger, limits: Limits
    ) -> None:
        self._system = system
        self._rules = rules
        self._ledger = ledger
        self._limits = limits
        self.failed = asyncio.Event()
        """Set when the ledger could not be written: whoever owns the gate opens it anew."""
        self._writer = Writer(ledger, on_failure=lambda error: self.failed.set())
        self._book = Book()
        self._balances = Balances(system, questions, system.recorder.recorded_at_us)
        self._stands = Stands(system, questions, self._book, self._balances)
        self._tide = Tide(system, self._book, self._balances, self._stands, self._writer)
        self._new_id = OrderedIds("rsv").new
        self._usual = Usual(
            rules,
            self._stands,
            self._balances,
            self._book,
            now_us=system.clock.now_us,
            advance_now=self._tide.advance_now,
            expire=self._expire,
        )
        self._settling: dict[str, asyncio.Future[None]] = {}
        self._again: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    # -- its life -------------------------------------------------------------------------------------------------
    async def open(self) -> None:
        """Read the ledger, append what was settled and may not be in the log, and begin to follow the recorder. Raises
        Unavailable."""
        await self._rules.look()
        found = await in_questions(self._system, self._ledger.load_open)
        for one in found:
            self._book.put(one)
        self._tasks.append(asyncio.create_task(self._writer.run(), name="ledger"))
        for one in found:
            if one.state is State.SETTLING:
                await self._append(one, self._columns(one))
        await self._tide.begin()
        self._expire()
        self._tasks.append(asyncio.create_task(self._follow(), name="gate"))
        _logger.info("gate_opened", open=len(self._book))

    async def close(self) -> None:
        """Write what is decided, and end."""
        self._closing = True  # a cancellation may be lost where what was waited for happens at the same time
        for task in self._tasks[1:]:
            task.cancel()
        self._writer.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self) -> None:
        swept_s = time.monotonic()
        while not self._closing:
            await asyncio.sleep(0)
            try:
                if await self._rules.look():
                    self._stands.forget()
                await self._tide.step(self._book.next_end_us)
                self._expire()
                for name in list(self._again):
                    one = self._book.get(name)
                    if one is not None and one.state is State.SETTLING:
                        await self._append(one, self._columns(one))
                    self._again.discard(name)
                if time.monotonic() - swept_s > 60:
                    swept_s = time.monotonic()
                    self._stands.sweep()
                    await in_questions(self._system, self._forget)
            except Exception as error:
                if self.failed.is_set():
                    return
                _logger.warning("gate_does_not_follow", error=repr(error))
                self._tide.stuck()
                await asyncio.sleep(0.2)

    def _forget(self) -> None:
        self._ledger.forget(closed_before_us=self._system.clock.now_us() - KEPT_US)

    def _expire(self) -> None:
        for one in self._book.due(self._system.clock.now_us()):
            self._put(one)

    def _put(self, one: Reservation) -> None:
        """With the next commit; nobody waits."""
        self._writer.later(one)
        self._book.put(one)

    def flush_ledger(self) -> None:
        """See catalog.limiting.Ledger.flush; from a thread."""
        self._ledger.flush()

    def changed(self) -> None:
        """A limit has been changed by this process."""
        self._rules.forget()

    # -- asking ---------------------------------------------------------------------------------------------------
    def check_text(self, ask: Ask) -> bytes | None:
        """As `check_now`, as JSON."""
        found = self._usual.check(ask)
        if found is None:
            receipt = self.check_now(ask)
            found = None if receipt is None else _encode(receipt)
        return found

    def check_now(self, ask: Ask) -> dict[str, Any] | None:
        """As `check`, without waiting; None: something has to be asked for first."""
        found = self._known(ask)
        return None if found is None else self._checked(ask, *found)

    async def check(self, ask: Ask) -> dict[str, Any]:
        """The receipt of using so much now. Raises NotFound (customer_not_found, meter_not_found)."""
        known = self.check_now(ask)
        if known is not None:
            return known
        meter = await self._rules.meter(ask.tenant, ask.meter)
        rules = self._concerned(await self._rules.rules(ask.tenant, ask.customer), ask, meter)
        return self._checked(ask, rules, await self._ready(ask, rules))

    def _checked(self, ask: Ask, rules: Sequence[Rule], now_us: int) -> dict[str, Any]:
        decision = decide([self._stands.standing(rule, ask, now_us, now_us) for rule in rules])
        before = decision.standing
        return receipt_of(
            ask,
            decision,
            before=before,
            after=before,
            as_of_us=self._balances.moment_us,
            now_us=now_us,
        )

    async def reserve(self, ask: Ask, ttl_s: int) -> Reserved:
        """Raises NotFound, Invalid, LimitExceeded, LimitUnknown, StorageFull, Unavailable."""
        made, written = await self._reserve(ask, ttl_s)
        await written
        return made

    async def reserve_each(self, asks: Sequence[tuple[Ask, int]]) -> list[Reserved | TallystickError]:
        """Decided in their order, each by itself; durable together."""
        made: list[Reserved | TallystickError] = []
        writing: list[Written] = []
        for ask, ttl_s in asks:
            try:
                one, written = await self._reserve(ask, ttl_s)
            except TallystickError as error:
                made.append(error)
            else:
                made.append(one)
                writing.append(written)
        for written in writing:
            await written
        return made

    async def reserve_each_text(self, asks: Sequence[tuple[Ask, int]]) -> list[bytes | TallystickError]:
        """As `reserve_each`: the documents with their receipts as JSON."""
        made: list[bytes | TallystickError] = []
        writing: list[Written] = []
        for ask, ttl_s in asks:
            try:
                found = self.reserve_text(ask, ttl_s)
                if found is None:
                    one, written = await self._reserve(ask, ttl_s)
                    text = _encode(reserved_document(one.reservation, one.receipt, position=None))
                else:
                    _, text, written = found
            except TallystickError as error:
                made.append(error)
            else:
                made.append(text)
                writing.append(written)
        for written in writing:
            await written
        return made

    async def _reserve(self, ask: Ask, ttl_s: int) -> tuple[Reserved, Written]:
        """Decided, and on its way into the ledger."""
        known = self.reserve_now(ask, ttl_s)
        if known is not None:
            return known
        meter = await self._rules.meter(ask.tenant, ask.meter)
        check_additive(meter, ask.amount)
        rules = self._concerned(await self._rules.rules(ask.tenant, ask.customer), ask, meter)
        return self._reserved(ask, ttl_s, rules, await self._ready(ask, rules))

    def reserve_text(self, ask: Ask, ttl_s: int) -> tuple[str, bytes, Written] | None:
        """As `reserve_now`: the reservation's id, and its document with the receipt as JSON."""
        found = self._usual.reserve(ask, ttl_s, self._new_id)
        if found is not None:
            one, text = found
            written = self._writer.write(one)
            self._book.put(one)
            return one.id, text, written
        known = self.reserve_now(ask, ttl_s)
        if known is None:
            return None
        made, written = known
        one = made.reservation
        return one.id, _encode(reserved_document(one, made.receipt, position=None)), written

    def reserve_now(self, ask: Ask, ttl_s: int) -> tuple[Reserved, Written] | None:
        """Decided without waiting, and on its way into the ledger: answer it when that is done. None: something has to be
        asked for first. Raises what `reserve` does."""
        found = self._known(ask, additive=True)
        return None if found is None else self._reserved(ask, ttl_s, *found)

    def _reserved(self, ask: Ask, ttl_s: int, rules: Sequence[Rule], now_us: int) -> tuple[Reserved, Written]:
        decision, rule = self._decide(rules, ask, now_us, now_us, None)
        one = Reservation(
            id=self._new_id(now_us),
            tenant=ask.tenant,
            customer=ask.customer,
            meter=ask.meter,
            dimensions=ask.dimensions,
            amount=ask.amount,
            created_us=now_us,
            expires_us=now_us + ttl_s * 1_000_000,
        )
        written = self._writer.write(one)
        self._book.put(one)
        return Reserved(one, self._receipt(ask, decision, rule, now_us)), written

    async def settle(
        self,
        tenant: str,
        name: str,
        amount: Decimal | None,
        event: dict[str, Any] | None,
    ) -> Reserved:
        """`amount` None: what the event says, or all of it. Raises
        NotFound (reservation_not_found), Conflict (already_settled, already_released, reservation_expired),
        LimitExceeded, Invalid, Unavailable."""
        one = await self.get(tenant, name)
        now_us = self._system.clock.now_us()
        if one.state is State.HELD:
            life.settle_again(one, amount or one.amount, now_us)
        elif amount is None and one.settled_amount is not None:
            amount = one.settled_amount
        if one.state is State.HELD:
            done = await self._settle(one, amount, event)
            if done is not None:
                return done
            one = await self.get(tenant, name)
        life.settle_again(one, one.amount if amount is None else amount, self._system.clock.now_us())
        waiting = self._settling.get(name)
        if waiting is not None:
            await asyncio.shield(waiting)
        one = await self.get(tenant, name)
        return Reserved(one, msgspec.json.decode(one.receipt) if one.receipt else {})

    async def _settle(
        self, one: Reservation, amount: Decimal | None, event: dict[str, Any] | None
    ) -> Reserved | None:
        """None: another has closed it meanwhile."""
        meter = await self._rules.meter(one.tenant, one.meter)
        now_us = self._system.clock.now_us()
        if event is None:
            amount = one.amount if amount is None else amount
            check_additive(meter, amount)
            events = made_events(one, meter, amount, now_us)
        else:
            events = given_event(event, now_us)
        columns = self._columns_of(events, one.tenant, now_us)
        amount, dimensions = await self._agreed(one, meter, columns, amount)
        time_us = int(columns.time_us[0])
        ask = Ask(one.tenant, one.customer, one.meter, amount, dimensions)
        rules = self._concerned(await self._rules.rules(one.tenant, one.customer), ask, meter)
        now_us = await self._ready(ask, rules, at_us=time_us)
        found = self._book.get(one.id)
        if found is None or found.state is not State.HELD:
            return None
        one = found
        if life.settle_again(one, amount, now_us):
            return None
        decision, rule = self._decide(rules, ask, now_us, time_us, one)
        closing = life.settled(one, amount, now_us=now_us, time_us=time_us, events=events, receipt=b"")
        closing = replace(closing, dimensions=dimensions)
        self._book.put(closing)
        receipt = self._receipt(ask, decision, rule, now_us)
        closing = replace(closing, receipt=_encode(receipt))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling[one.id] = done
        try:
            self._book.put(closing)
            await self._writer.write(closing)
            closing = await self._append(closing, columns)
        finally:
            self._settling.pop(one.id, None)
            if not done.done():
                done.set_result(None)
        return Reserved(closing, receipt)

    async def _agreed(
        self, one: Reservation, meter: Meter, columns: EventColumns, amount: Decimal | None
    ) -> tuple[Decimal, life.Dimensions]:
        """The amount the events give to the meter, which must be the one asked for; and their dimensions."""
        total, dimensions = contributed(meter, columns)
        faults: list[Fault] = []
        if amount is not None and total != amount:
            detail = f"The event gives {plain(total)} to the meter {meter.key!r}, and {plain(amount)} is to be settled."
            faults.append(Fault("/event", "event_amount_differs", detail))
        if total <= 0:
            detail = "An amount is greater than 0."
            faults.append(Fault("/event", "event_amount_differs", detail))
        owner = await self._rules.owner(one.tenant, columns.subject[0])
        if owner != one.customer:
            detail = (
                f"The subject {columns.subject[0][:80]!r} does not belong to the customer {one.customer!r}."
            )
            faults.append(Fault("/event/subject", "event_of_another_customer", detail))
        found = dict(dimensions)
        for name, value in one.dimensions:
            if found.get(name) != value:
                detail = f"The reservation is for {name} {value!r}, and the event has {found.get(name)!r}."
                faults.append(Fault("/event/data", "event_dimensions_differ", detail))
        if faults:
            raise Invalid(" ".join(fault.detail for fault in faults), code=faults[0].code, faults=faults)
        return total, dimensions

    async def release(self, tenant: str, name: str) -> Reserved:
        """Raises NotFound (reservation_not_found), Conflict (already_settled, reservation_expired), Unavailable."""
        one = await self.get(tenant, name)
        ask = Ask(one.tenant, one.customer, one.meter, one.amount, one.dimensions)
        meter = await self._rules.meter(tenant, one.meter)
        rules = self._concerned(await self._rules.rules(tenant, one.customer), ask, meter)
        now_us = await self._ready(ask, rules)
        one = self._book.get(name) or one
        if life.release_again(one, now_us):
            return Reserved(one, msgspec.json.decode(one.receipt) if one.receipt else {})
        closing = life.released(one, now_us=now_us, receipt=b"")
        self._book.put(closing)
        decision, rule = self._named(rules, ask, now_us)
        receipt = self._receipt(ask, decision, rule, now_us)
        closing = replace(closing, receipt=_encode(receipt))
        await self._writer.write(closing)
        return Reserved(closing, receipt)

    async def get(self, tenant: str, name: str) -> Reservation:
        """Open or closed. Raises NotFound (reservation_not_found)."""
        found = self._book.get(name)
        if found is None:
            read = await in_questions(self._system, lambda: self._ledger.find([name]))
            found = self._book.get(name) or read.get(name)
        if found is None or found.tenant != tenant:
            raise NotFound(f"There is no reservation {name[:80]!r}.", code="reservation_not_found")
        if found.state is State.HELD and self._system.clock.now_us() >= found.expires_us:
            return life.expired(found)
        return found

    async def page(
        self,
        tenant: str,
        *,
        customers: Sequence[str] | None,
        state: str | None,
        cursor: str | None,
        limit: int,
    ) -> Page[Reservation]:
        """In the order they were made."""
        self._expire()
        return await in_questions(
            self._system,
            lambda: self._ledger.page(tenant, customers=customers, state=state, cursor=cursor, limit=limit),
        )

    async def standings(self, tenant: str, customer: str) -> list[Standing]:
        """How all limits of a customer stand."""
        now_us = self._system.clock.now_us()
        rules = [rule for rule in await self._rules.rules(tenant, customer) if rule.holds(now_us)]
        made: list[Standing] = []
        for rule in rules:
            key = rule.limit.meter or ""
            ask = Ask(tenant, customer, key, ZERO)
            now_us = await self._ready(ask, [rule])
            made.append(self._stands.standing(rule, ask, now_us, now_us))
        return made

    # -- deciding -------------------------------------------------------------------------------------------------
    def _concerned(self, rules: Sequence[Rule], ask: Ask, meter: Meter) -> list[Rule]:
        now_us = self._system.clock.now_us()
        return [rule for rule in rules if self._stands.concerns(rule, ask, meter) and rule.holds(now_us)]

    def _known(self, ask: Ask, *, additive: bool = False) -> tuple[list[Rule], int] | None:
        """What concerns a use, and the moment it can be decided at without another await."""
        known = self._rules.known(ask.tenant, ask.customer, ask.meter)
        if known is None:
            return None
        meter, rules = known
        if additive:
            check_additive(meter, ask.amount)
        concerned = self._concerned(rules, ask, meter)
        if concerned and not self._tide.advance_now():
            return None
        now_us = self._system.clock.now_us()
        if not all(self._stands.is_ready(rule, ask, now_us, now_us) for rule in concerned):
            return None
        self._expire()
        return concerned, now_us

    async def _ready(self, ask: Ask, rules: Sequence[Rule], *, at_us: int | None = None) -> int:
        """Have everything that is needed to decide without another await; the moment it is decided at."""
        if not rules:
            self._expire()
            return self._system.clock.now_us()
        await self._tide.catch_up()
        for _ in range(20):
            now_us = self._system.clock.now_us()
            moments = {now_us, now_us if at_us is None else at_us}
            missing = [
                (rule, moment)
                for rule in rules
                for moment in moments
                if not self._stands.is_ready(rule, ask, moment, now_us)
            ]
            if not missing:
                self._expire()
                return now_us
            await asyncio.gather(*(self._stands.load(rule, ask, moment) for rule, moment in missing))
        raise Unavailable("Usage changes too fast to be followed; try again.", retry_after_s=1)

    def _decide(
        self, rules: Sequence[Rule], ask: Ask, now_us: int, at_us: int, own: Reservation | None
    ) -> tuple[Decision, Rule | None]:
        """Raises LimitExceeded, LimitUnknown with the receipt."""
        standings = [self._stands.standing(rule, ask, now_us, at_us, own) for rule in rules]
        if own is not None:
            # What was reserved may always be settled, whatever became of the limit since.
            standings = [
                replace(one, limit=changed(one.limit, enforce=Enforce.SOFT))
                if ask.amount <= own.amount and self._stands.counted(rule, own, now_us, at_us)
                else one
                for rule, one in zip(rules, standings, strict=True)
            ]
        decision = decide(standings)
        if decision.allowed:
            rule = _rule_of(rules, decision)
            if own is not None and rule is not None and decision.standing is not None:
                # The receipt names the limit as it is, also where it was taken for a soft one.
                named = changed(decision.standing.limit, enforce=rule.limit.enforce)
                decision = replace(decision, standing=replace(decision.standing, limit=named))
            return decision, rule
        receipt = receipt_of(
            ask,
            decision,
            before=decision.standing,
            after=decision.standing,
            as_of_us=self._balances.moment_us,
            now_us=now_us,
        )
        detail = sentence(ask, decision)
        if decision.reason == UNKNOWN_CLOSED:
            raise LimitUnknown(detail, receipt)
        raise LimitExceeded(detail, receipt)

    def _named(self, rules: Sequence[Rule], ask: Ask, now_us: int) -> tuple[Decision, Rule | None]:
        nothing = replace(ask, amount=ZERO)
        decision = decide([self._stands.standing(rule, nothing, now_us, now_us) for rule in rules])
        return replace(decision, allowed=True), _rule_of(rules, decision)

    def _receipt(self, ask: Ask, decision: Decision, rule: Rule | None, now_us: int) -> dict[str, Any]:
        after = (
            None if rule is None else self._stands.standing(rule, replace(ask, amount=ZERO), now_us, now_us)
        )
        return receipt_of(
            ask,
            decision,
            before=decision.standing,
            after=after,
            as_of_us=self._balances.moment_us,
            now_us=now_us,
        )

    # -- the log --------------------------------------------------------------------------------------------------
    def _columns(self, one: Reservation) -> EventColumns:
        assert one.settled_us is not None
        return self._columns_of(one.events, one.tenant, one.settled_us)

    def _columns_of(self, events: bytes, tenant: str, received_at_us: int) -> EventColumns:
        return columns_of(events, tenant=tenant, received_at_us=received_at_us, limits=self._limits)

    async def _append(self, one: Reservation, columns: EventColumns) -> Reservation:
        """Into the log; tried again later when it cannot be now. The settlement stands either way."""
        appending = asyncio.ensure_future(self._system.log.append(columns))
        self._tide.begins(appending)
        try:
            positions = await appending
        except TallystickError as error:
            _logger.warning("settlement_not_appended", reservation=one.id, error=error.detail)
            self._again.add(one.id)
            return one
        finally:
            self._tide.ends(appending)
        placed = life.placed(one, tuple(int(position) for position in positions))
        self._put(placed)
        return placed


def _rule_of(rules: Sequence[Rule], decision: Decision) -> Rule | None:
    named = decision.standing
    if named is None:
        return None
    return next(rule for rule in rules if rule.limit.key == named.limit.key)


def check_additive(meter: Meter, amount: Decimal) -> None:
    """Raises Invalid (meter_not_additive, amount_not_whole)."""
    if meter.aggregation not in ADDED_UP or meter.of is not None:
        detail = (
            f"The meter {meter.key!r} does not sum or count: nothing of it can be reserved. Ask /v1/check."
        )
        raise Invalid(
            detail, code="meter_not_additive", faults=[Fault("/meter", "meter_not_additive", detail)]
        )
    if meter.aggregation is Aggregation.COUNT and amount != amount.to_integral_value():
        detail = f"The meter {meter.key!r} counts events: an amount of it is a whole number."
        raise Invalid(detail, code="amount_not_whole", faults=[Fault("/amount", "amount_not_whole", detail)])
