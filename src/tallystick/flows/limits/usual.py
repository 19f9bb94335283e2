"""The usual check and reservation, decided and spelled with as little as can be: most of the gate's work by far.

A decision by stand.py, receipt.py and limits/standing.py makes a dozen objects a rule and spells the same names, windows and
moments again for each. Here all that stays the same between two uses is kept by customer, meter and dimensions, text
included. Limits of a meter by day, week, month or rolling window are decided like that, where usage is known. Everything
else (money, plans, what is carried over, usage that is not loaded, a refusal of a reservation, a fault) is answered with
None: the long way says it. The long way is also what tests hold this to, byte for byte.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from tallystick.flows.limits.balances import Asked, Balances, Key
from tallystick.flows.limits.rules import Ask, Rule, RuleBook
from tallystick.flows.limits.stand import Stands
from tallystick.limits.book import Account, Book
from tallystick.limits.limit import Enforce, Window
from tallystick.limits.reservation import Reservation
from tallystick.limits.standing import ADDED_UP, EXCEEDED, NO_LIMIT, OVER_SOFT, WITHIN, after_use
from tallystick.metering.instant import instant_text
from tallystick.metering.meter import Aggregation
from tallystick.money import ZERO, exactly, plain

KEPT_MAX = 20_000
DIMENSION_CHARACTERS_MAX = 256
"""Uses with longer dimensions go the long way, so that what is kept stays small."""
_NO_LIMIT = '"rule":null,"limit":null,"used":null,"held":null,"remaining":null'
_NO_PERIOD = ',"currency":null,"reset_at":null,"period":null,"enforce":null'


class _Line:
    """A limit as it concerns one kind of use, in the window of now."""

    __slots__ = (
        "account",
        "amount",
        "conditions",
        "from_us",
        "head",
        "is_hard",
        "key",
        "place",
        "reset_us",
        "rule",
        "since_us",
        "tail",
        "unknown",
        "until_us",
        "window",
    )

    def __init__(self, rule: Rule, ask: Ask) -> None:
        assert rule.meter is not None
        self.rule = rule
        self.account: Account = (ask.tenant, ask.customer, rule.meter.key)
        self.conditions = rule.conditions
        self.is_hard = rule.limit.enforce is Enforce.HARD
        self.place = rule.limit.key
        self.unknown = (rule.limit.key, ask.tenant, ask.customer)
        self.since_us = self.until_us = 0
        self.reset_us = 0
        self.from_us = 0
        self.amount = ZERO
        self.head = self.tail = ""
        self.window: Window
        self.key: Key

    def move(self, ask: Ask, now_us: int) -> None:
        """To the window of a moment: it stays the same from `since_us` until `until_us`."""
        rule = self.rule
        limit, meter = rule.limit, rule.meter
        assert meter is not None
        window = self.window = rule.window(now_us)
        self.key = Asked(ask.tenant, ask.customer, meter, limit.filter, window).key
        self.from_us = window.from_us
        self.since_us, self.until_us = window.from_us, window.to_us
        if window.bucket_us is not None:
            self.since_us = now_us // window.bucket_us * window.bucket_us
            self.until_us = self.since_us + window.bucket_us
        self.amount = limit.amount
        for amount, until_us in rule.raises:
            if until_us > now_us:
                self.amount += amount
                self.until_us = min(self.until_us, until_us)
            else:
                self.since_us = max(self.since_us, until_us)
        self.head = f'"rule":{_text(limit.key)},"limit":"{plain(self.amount)}"'
        self.spell_end(window.to_us)

    def spell_end(self, reset_us: int) -> None:
        window = self.window
        self.reset_us = reset_us
        self.tail = (
            f',"currency":null,"reset_at":"{instant_text(reset_us)}","period":{{"from":"{instant_text(window.from_us)}",'
            f'"to":"{instant_text(window.to_us)}"}},"enforce":"{self.rule.limit.enforce.value}"'
        )


class _Use:
    """What is kept of one kind of use. `lines` None: it is not a usual one."""

    __slots__ = ("aggregation", "dimensions", "generation", "lines", "who")

    def __init__(
        self, ask: Ask, lines: list[_Line] | None, aggregation: Aggregation | None, generation: int
    ) -> None:
        """`aggregation` None: the meter is made of others, and nothing of it can be reserved."""
        self.generation = generation
        self.lines = lines
        self.aggregation = aggregation
        self.who = f',"customer":{_text(ask.customer)},"meter":{_text(ask.meter)},"amount":"'
        self.dimensions = f'","dimensions":{_encode(dict(ask.dimensions)).decode()}'


class _Standing:
    """A line at one moment."""

    __slots__ = ("after", "held", "line", "remaining", "used")

    def __init__(self, line: _Line, used: Decimal, held: Decimal, after: Decimal) -> None:
        self.line = line
        self.used = used
        self.held = held
        self.after = after
        self.remaining = line.amount - used - held

    @property
    def order(self) -> tuple[Decimal, str]:
        return (max(ZERO, self.remaining), self.line.place)


_Decided = tuple[bool, str, _Standing | None]
"""Allowed, reason, and the line that answers."""


class Usual:
    """One event loop uses it."""

    def __init__(
        self,
        rules: RuleBook,
        stands: Stands,
        balances: Balances,
        book: Book,
        *,
        now_us: Callable[[], int],
        advance_now: Callable[[], bool],
        expire: Callable[[], None],
    ) -> None:
        """`advance_now`: move on to what is recorded (tide.py); False: that takes waiting. `expire`: give back what is due."""
        self._rules = rules
        self._stands = stands
        self._balances = balances
        self._book = book
        self._now_us = now_us
        self._advance_now = advance_now
        self._expire = expire
        self._uses: dict[tuple[str, str, str, object], _Use] = {}
        self._as_of = (-1, "")

    def check(self, ask: Ask) -> bytes | None:
        """The receipt as JSON, as `LimitGate.check` has it."""
        use = self._use(ask)
        found = None if use is None else self._stood(ask, use)
        if use is None or found is None:
            return None
        standings, now_us = found
        spelled = self._spelled(ask, use, self._decided(standings), ZERO, instant_text(now_us))
        return (spelled + "}").encode()

    def reserve(self, ask: Ask, ttl_s: int, new_id: Callable[[int], str]) -> tuple[Reservation, bytes] | None:
        """What is to be held from now on, and its document as JSON (receipt.reserved_document). Nothing is changed by it: the
        caller puts it into the ledger and the book."""
        use = self._use(ask)
        if use is None or use.aggregation not in ADDED_UP:
            return None
        amount = ask.amount
        if use.aggregation is Aggregation.COUNT and amount != amount.to_integral_value():
            return None
        found = self._stood(ask, use)
        if found is None:
            return None
        standings, now_us = found
        decided = self._decided(standings)
        if not decided[0]:
            return None
        name, expires_us = new_id(now_us), now_us + ttl_s * 1_000_000
        one = Reservation(
            name, ask.tenant, ask.customer, ask.meter, ask.dimensions, amount, now_us, expires_us
        )
        now = instant_text(now_us)
        spelled = self._spelled(ask, use, decided, amount, now)
        whole = (
            f'{spelled},"id":"{name}","state":"held","settled_amount":null,"created_at":"{now}",'
            f'"expires_at":"{instant_text(expires_us)}","settled_at":null,"closed_at":null,"counted":null,"position":null}}'
        )
        return one, whole.encode()

    # -- what is kept ---------------------------------------------------------------------------------------------
    def _use(self, ask: Ask) -> _Use | None:
        place = (ask.tenant, ask.customer, ask.meter, ask.dimensions)
        use = self._uses.get(place)
        if use is None or use.generation != self._rules.generation:
            use = self._made(ask)
            if use is None:
                return None
            self._uses.pop(place, None)
            self._uses[place] = use
            if len(self._uses) > KEPT_MAX:
                del self._uses[next(iter(self._uses))]
        return None if use.lines is None else use

    def _made(self, ask: Ask) -> _Use | None:
        known = self._rules.known(ask.tenant, ask.customer, ask.meter)
        if known is None:
            return None
        if sum(len(name) + len(value or "") for name, value in ask.dimensions) > DIMENSION_CHARACTERS_MAX:
            return None
        meter, rules = known
        concerned = [rule for rule in rules if self._stands.concerns(rule, ask, meter)]
        lines = [_Line(rule, ask) for rule in concerned] if all(map(_is_usual, concerned)) else None
        aggregation = meter.aggregation if meter.of is None else None
        return _Use(ask, lines, aggregation, self._rules.generation)

    # -- deciding -------------------------------------------------------------------------------------------------
    @exactly
    def _stood(self, ask: Ask, use: _Use) -> tuple[list[_Standing], int] | None:
        """How each line stands, and when that was; None: something has to be waited for."""
        lines = use.lines
        assert lines is not None
        if lines and not self._advance_now():
            return None
        now_us = self._now_us()
        next_end_us = self._book.next_end_us
        if next_end_us is not None and next_end_us <= now_us:
            self._expire()
        standings: list[_Standing] = []
        for line in lines:
            if not line.since_us <= now_us < line.until_us:
                line.move(ask, now_us)
            if self._stands.is_unknown(line.unknown):
                return None
            found = self._balances.found(line.key, line.from_us, now_us)
            if found is None:
                return None
            used, first_us = found
            held, pending = self._book.stands(line.account, line.window, line.conditions)
            if pending:
                used += pending
            bucket_us = line.window.bucket_us
            if bucket_us is not None:
                first_us = now_us // bucket_us * bucket_us if first_us is None else first_us
                reset_us = first_us + line.rule.limit.period.rolling_us + bucket_us
                if reset_us != line.reset_us:
                    line.spell_end(reset_us)
            if use.aggregation in ADDED_UP:
                after = used + held + ask.amount
            else:
                assert line.rule.meter is not None
                after = after_use(used, held, ask.amount, line.rule.meter.aggregation)
            standings.append(_Standing(line, used, held, after))
        return standings, now_us

    def _decided(self, standings: Sequence[_Standing]) -> _Decided:
        """limits/standing.decide."""
        if not standings:
            return True, NO_LIMIT, None
        over = [one for one in standings if one.after > one.line.amount]
        if not over:
            return True, WITHIN, _least(standings)
        refusing = [one for one in over if one.line.is_hard]
        if refusing:
            return False, EXCEEDED, _least(refusing)
        return True, OVER_SOFT, _least(over)

    # -- spelling -------------------------------------------------------------------------------------------------
    @exactly
    def _spelled(self, ask: Ask, use: _Use, decided: _Decided, more: Decimal, now: str) -> str:
        """The members of receipt.receipt_of, without the brace at the end. `more` is held once this is done."""
        allowed, reason, named = decided
        start = f'{{"allowed":{"true" if allowed else "false"},"reason":"{reason}",'
        about = f"{use.who}{plain(ask.amount)}{use.dimensions}"
        end = f',"as_of":"{self._as_of_text()}","decided_at":"{now}"'
        if named is None:
            return f'{start}{_NO_LIMIT}{_NO_PERIOD}{about},"before":null,"after":null{end}'
        line, used, left = named.line, plain(named.used), named.remaining
        before = (
            f'"used":"{used}","held":"{plain(named.held)}","remaining":"{plain(left) if left > 0 else "0"}"'
        )
        after = before
        if more:
            left -= more
            after = (
                f'"used":"{used}","held":"{plain(named.held + more)}",'
                f'"remaining":"{plain(left) if left > 0 else "0"}"'
            )
        return f'{start}{line.head},{after}{line.tail}{about},"before":{{{before}}},"after":{{{after}}}{end}'

    def _as_of_text(self) -> str:
        moment_us, text = self._as_of
        if moment_us != self._balances.moment_us:
            moment_us = self._balances.moment_us
            text = instant_text(moment_us)
            self._as_of = (moment_us, text)
        return text


def _is_usual(rule: Rule) -> bool:
    """Whether nothing but the moment, its meter's usage and what is open of that tells how it stands."""
    limit = rule.limit
    return (
        rule.meter is not None
        and limit.plan is None
        and limit.carry_over is None
        and limit.period.kind != "billing"
    )


def _least(standings: Sequence[_Standing]) -> _Standing:
    return standings[0] if len(standings) == 1 else min(standings, key=lambda one: one.order)


_encode = msgspec.json.Encoder().encode


def _text(value: str) -> str:
    return _encode(value).decode()
