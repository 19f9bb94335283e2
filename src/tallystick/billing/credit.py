"""What becomes of credits: they begin, come again, roll over, are spent in a stated order, and end.

Every movement is an `Entry`: an amount that leaves one account and enters another, so that the accounts of a customer
always sum to zero. `settle` writes down what time alone does; `spend` what is paid with credits; `give_back` undoes that.
`burn_down` is the same for units of a meter whose usage is known only as a function of time, for a balance at a moment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from tallystick.billing.grant import Grant
from tallystick.billing.make_way import make_way
from tallystick.money import ZERO, exactly, split

SETTLE_ENTRIES_MAX = 100_000


class Account(StrEnum):
    """Where credits can be. `granted` is what they come from (its balance is negative), `grant` what the customer has."""

    GRANTED = "granted"
    GRANT = "grant"
    CONSUMED = "consumed"
    EXPIRED = "expired"
    VOIDED = "voided"


class Kind(StrEnum):
    """Why an entry was made."""

    GRANT = "grant"
    RECUR = "recur"
    ROLL_OVER = "roll_over"
    EXPIRE = "expire"
    VOID = "void"
    CONSUME = "consume"
    GIVE_BACK = "give_back"


@dataclass(frozen=True, slots=True)
class Entry:
    """`amount` (greater than 0) of a grant moves from `source` to `target` at `at_us`. `reference`: what was paid with it,
    `line` which line of that."""

    grant: str
    kind: Kind
    at_us: int
    amount: Decimal
    source: Account
    target: Account
    reference: str | None = None
    line: str | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """A grant and what is left of it. `settled_us`: up to when, inclusive, time has been written down; None: it has not
    begun. `ended`: it counts no more."""

    grant: Grant
    balance: Decimal = ZERO
    settled_us: int | None = None
    ended: bool = False

    @property
    def next_us(self) -> int | None:
        """When time does something to it next; None: never again."""
        if self.ended:
            return None
        if self.settled_us is None:
            return self.grant.effective_us
        moments: list[int] = []
        if self.grant.end_us is not None:
            moments.append(self.grant.end_us)
        if self.grant.recurrence is not None:
            moments.append(self.grant.recurrence.next_after(self.settled_us))
        return min(moments) if moments else None


@dataclass(frozen=True, slots=True)
class Settled:
    """Holdings as they are now, and the entries that made them so, by time."""

    holdings: tuple[Holding, ...]
    entries: tuple[Entry, ...]


def accounts(entries: Sequence[Entry]) -> dict[tuple[Account, str], Decimal]:
    """The balance of each (account, grant)."""
    made: dict[tuple[Account, str], Decimal] = {}
    for entry in entries:
        for account, amount in ((entry.source, -entry.amount), (entry.target, entry.amount)):
            made[account, entry.grant] = made.get((account, entry.grant), ZERO) + amount
    return made


# -- time -----------------------------------------------------------------------------------------------------------
@exactly
def settle(holdings: Sequence[Holding], until_us: int) -> Settled:
    """Write down what has come due up to `until_us`, inclusive.

    A grant that ends when it would come again ends. One that begins after its end never was.
    """
    entries: list[Entry] = []
    made = [_settle_one(holding, until_us, entries) for holding in holdings]
    entries.sort(key=lambda entry: entry.at_us)  # stable: those of a grant keep their order
    return Settled(tuple(made), tuple(entries))


def _settle_one(holding: Holding, until_us: int, entries: list[Entry]) -> Holding:
    grant = holding.grant
    for _ in range(SETTLE_ENTRIES_MAX):
        at_us = holding.next_us
        if at_us is None or at_us > until_us:
            break
        if grant.end_us is not None and at_us >= grant.end_us:
            voided = grant.end_us == grant.voided_us
            if holding.balance:
                kind, target = (Kind.VOID, Account.VOIDED) if voided else (Kind.EXPIRE, Account.EXPIRED)
                # Not before it happened: a grant may be voided with effect from a moment that is written down already.
                entries.append(Entry(grant.id, kind, grant.end_us, holding.balance, Account.GRANT, target))
            return replace(holding, balance=ZERO, settled_us=at_us, ended=True)
        if holding.settled_us is None:
            if grant.amount:
                entries.append(
                    Entry(grant.id, Kind.GRANT, at_us, grant.amount, Account.GRANTED, Account.GRANT)
                )
            holding = replace(holding, balance=grant.amount, settled_us=at_us)
            continue
        holding = _recur(holding, at_us, entries)
    return holding


def _recur(holding: Holding, at_us: int, entries: list[Entry]) -> Holding:
    grant = holding.grant
    assert grant.recurrence is not None
    kept = grant.rollover.kept(holding.balance)
    if kept < holding.balance:
        lost = holding.balance - kept
        entries.append(Entry(grant.id, Kind.EXPIRE, at_us, lost, Account.GRANT, Account.EXPIRED))
    elif kept > holding.balance:
        raised = kept - holding.balance
        entries.append(Entry(grant.id, Kind.ROLL_OVER, at_us, raised, Account.GRANTED, Account.GRANT))
    amount = grant.recurrence.amount
    if amount:
        entries.append(Entry(grant.id, Kind.RECUR, at_us, amount, Account.GRANTED, Account.GRANT))
    return replace(holding, balance=kept + amount, settled_us=at_us)


# -- spending -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Payable:
    """Something credits may pay. `amount` is not negative; of money it is rounded."""

    id: str
    amount: Decimal
    meter: str | None = None
    charge: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """After spending: the holdings, the entries, and what is still to be paid of each payable."""

    holdings: tuple[Holding, ...]
    entries: tuple[Entry, ...]
    left: tuple[Decimal, ...]

    @property
    def amount(self) -> Decimal:
        """How much was paid with credits."""
        return sum((entry.amount for entry in self.entries), ZERO)


@exactly
def spend(
    holdings: Sequence[Holding],
    payables: Sequence[Payable],
    *,
    at_us: int,
    reference: str | None,
    quantum: Decimal,
) -> Spent:
    """Pay with what there is, in the order of `Grant.burn_order`; what remains to be paid is no error.

    A grant pays what is left of every payable in its scope. When it does not reach for all of them, each gets a share in
    proportion to what is left of it, in multiples of `quantum` by largest remainder (the minor unit, for money). A grant
    that finds everything in its scope paid makes those move that can pay elsewhere (make_way.py).
    `holdings` are settled up to `at_us`.
    """
    left = [payable.amount for payable in payables]
    ordered = sorted(holdings, key=lambda one: one.grant.burn_order())
    covers: list[list[int]] = []
    paid: list[dict[int, Decimal]] = [{} for _ in payables]
    stuck: set[int] = set()
    for number, holding in enumerate(ordered):
        balance = holding.balance
        scope = holding.grant.scope
        covered = [
            index
            for index, payable in enumerate(payables)
            if balance > 0 and scope.covers(meter=payable.meter, charge=payable.charge, plan=payable.plan)
        ]
        covers.append(covered)
        places = [index for index in covered if left[index] > 0]
        wanted = sum((left[index] for index in places), ZERO)
        if wanted:
            shares = (
                [left[index] for index in places]
                if balance >= wanted
                else split(balance, [left[index] for index in places], quantum)
            )
            for index, share in zip(places, shares, strict=True):
                if share:
                    left[index] -= share
                    paid[index][number] = share
        if covered and balance > wanted and any(left):
            make_way(number, balance - wanted, covers, paid, left, stuck=stuck)
    consumed: dict[int, list[Entry]] = {}
    for index, payers in enumerate(paid):
        for number, amount in payers.items():
            consumed.setdefault(number, []).append(
                Entry(
                    ordered[number].grant.id,
                    Kind.CONSUME,
                    at_us,
                    amount,
                    Account.GRANT,
                    Account.CONSUMED,
                    reference,
                    payables[index].id,
                )
            )
    entries = [entry for _, some in sorted(consumed.items()) for entry in some]
    used: dict[str, Decimal] = {}
    for entry in entries:
        used[entry.grant] = used.get(entry.grant, ZERO) + entry.amount
    made = tuple(
        replace(one, balance=one.balance - used[one.grant.id]) if one.grant.id in used else one
        for one in holdings
    )
    return Spent(made, tuple(entries), tuple(left))


@exactly
def give_back(holdings: Sequence[Holding], consumed: Sequence[Entry], *, at_us: int) -> Settled:
    """Undo what was paid: every amount returns to its grant. What has ended in the meantime ends again at once."""
    by_id = {holding.grant.id: holding for holding in holdings}
    entries: list[Entry] = []
    for entry in consumed:
        holding = by_id[entry.grant]
        back = replace(entry, kind=Kind.GIVE_BACK, at_us=at_us, source=Account.CONSUMED, target=Account.GRANT)
        entries.append(back)
        if holding.ended:
            grant = holding.grant
            voided = grant.voided_us is not None and grant.end_us == grant.voided_us
            kind, target = (Kind.VOID, Account.VOIDED) if voided else (Kind.EXPIRE, Account.EXPIRED)
            entries.append(Entry(grant.id, kind, at_us, entry.amount, Account.GRANT, target))
        else:
            by_id[entry.grant] = replace(holding, balance=holding.balance + entry.amount)
    return Settled(tuple(by_id[holding.grant.id] for holding in holdings), tuple(entries))


# -- units of a meter -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Phase:
    """A time in which nothing happens to grants but use: balances at its begin and its end, and what no grant paid."""

    from_us: int
    to_us: int
    used: Decimal
    begin: dict[str, Decimal]
    end: dict[str, Decimal]
    overage: Decimal


@dataclass(frozen=True, slots=True)
class BurnDown:
    """`holdings` at the end, and the entries that made them so; `overage`: use that no grant has paid yet, which the next
    one pays first."""

    holdings: tuple[Holding, ...]
    entries: tuple[Entry, ...]
    phases: tuple[Phase, ...]
    overage: Decimal


def borders(holdings: Sequence[Holding], from_us: int, to_us: int) -> tuple[int, ...]:
    """The moments within (from_us, to_us) at which time does something to a grant, with both ends."""
    found = {from_us, to_us}
    for holding in holdings:
        probe = holding
        for _ in range(SETTLE_ENTRIES_MAX):
            at_us = probe.next_us
            if at_us is None or at_us >= to_us:
                break
            if at_us > from_us:
                found.add(at_us)
            probe = _settle_one(probe, at_us, [])
    return tuple(sorted(found))


@exactly
def burn_down(
    holdings: Sequence[Holding],
    used: Callable[[int, int], Decimal],
    from_us: int,
    to_us: int,
    *,
    overage: Decimal = ZERO,
) -> BurnDown:
    """Burn use of [from_us, to_us) from grants, phase by phase; `used` answers what was used in a phase.

    Use that no grant pays is overage, and is paid by grants that begin or come again later, before any other use.
    """
    held = tuple(holdings)
    moments = borders(held, from_us, to_us)
    entries: list[Entry] = []
    phases: list[Phase] = []

    def begin_at(at_us: int) -> None:
        nonlocal held, overage
        settled = settle(held, at_us)
        entries.extend(settled.entries)
        held, overage = _burn(settled.holdings, overage, at_us, entries)

    for begin_us, end_us in pairwise(moments):
        begin_at(begin_us)
        begin = {one.grant.id: one.balance for one in held}
        quantity = used(begin_us, end_us)
        held, unpaid = _burn(held, quantity, end_us, entries)
        overage += unpaid
        phases.append(
            Phase(begin_us, end_us, quantity, begin, {one.grant.id: one.balance for one in held}, overage)
        )
    begin_at(to_us)
    return BurnDown(held, tuple(entries), tuple(phases), overage)


def _burn(
    holdings: tuple[Holding, ...], quantity: Decimal, at_us: int, entries: list[Entry]
) -> tuple[tuple[Holding, ...], Decimal]:
    if quantity <= 0:
        return holdings, ZERO
    paid: dict[str, Decimal] = {}
    left = quantity
    for holding in sorted(holdings, key=lambda one: one.grant.burn_order()):
        part = min(left, holding.balance)
        if part > 0:
            paid[holding.grant.id] = part
            left -= part
            entries.append(
                Entry(holding.grant.id, Kind.CONSUME, at_us, part, Account.GRANT, Account.CONSUMED)
            )
        if not left:
            break
    made = tuple(
        replace(one, balance=one.balance - paid[one.grant.id]) if one.grant.id in paid else one
        for one in holdings
    )
    return made, left
