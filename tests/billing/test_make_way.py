"""Credits that may pay little and credits that may pay all, together: Lago's wallets, and what must hold for any of them."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import chain, combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.credit import Holding, Payable, settle, spend
from tallystick.billing.grant import CreditUnit, Grant, Scope

D = Decimal
CENT = D("0.01")


def holding(
    name: str, cents: int, charges: Sequence[str] = (), priority: int = 50, created: int = 0
) -> Holding:
    scope = Scope(charges=frozenset(charges))
    return Holding(
        Grant(
            name,
            "acme",
            CreditUnit(currency="EUR"),
            D(cents) / 100,
            0,
            created,
            priority=priority,
            scope=scope,
        )
    )


def pay(held: Sequence[Holding], wanted: dict[str, int]) -> tuple[dict[str, int], int]:
    """What each grant paid, and what is left, in cents."""
    payables = [Payable(name, D(cents) / 100, charge=name) for name, cents in wanted.items()]
    spent = spend(settle(held, 0).holdings, payables, at_us=0, reference=None, quantum=CENT)
    paid: dict[str, int] = {}
    for entry in spent.entries:
        paid[entry.grant] = paid.get(entry.grant, 0) + int(entry.amount * 100)
        assert entry.amount > 0
    assert len({(entry.grant, entry.line) for entry in spent.entries}) == len(spent.entries)
    by_line = {
        payable.id: sum((entry.amount for entry in spent.entries if entry.line == payable.id), D(0))
        for payable in payables
    }
    assert [payable.amount - by_line[payable.id] for payable in payables] == list(spent.left)
    scopes = {one.grant.id: one.grant.scope for one in held}
    assert all(
        scopes[entry.grant].covers(meter=None, charge=entry.line, plan=None) for entry in spent.entries
    )
    balances = {one.grant.id: one.balance for one in spent.holdings}
    assert all(
        balances[one.grant.id] * 100 == one.grant.amount * 100 - paid.get(one.grant.id, 0) for one in held
    )
    assert all(balance >= 0 for balance in balances.values())
    return paid, int(sum(spent.left) * 100)


WALLETS: list[tuple[list[tuple[str, int, list[str], int]], dict[str, int], dict[str, int]]] = [
    # (name, cents, what it may pay, priority) of each; the fees with their tax; what each pays. All of an invoice is paid.
    ([("a", 1000, [], 49), ("b", 1000, [], 50)], {"fee": 60 + 6, "use": 40 + 4}, {"a": 110}),
    (
        [
            ("all", 1000, [], 49), ("use", 1000, ["use"], 49), ("fee", 1000, ["fee"], 49),
            ("all, later", 1000, [], 50), ("use, later", 1000, ["use"], 50), ("fee, later", 1000, ["fee"], 50),
        ],
        {"fee": 3600, "use": 1550},
        {"all": 1000, "use": 1000, "fee": 1000, "all, later": 1000, "use, later": 550, "fee, later": 600},
    ),
    (
        [("fee", 1000, ["fee"], 48), ("use", 1000, ["use"], 48), ("all", 1000, [], 49)],
        {"fee": 66, "use": 44},
        {"fee": 66, "use": 44},
    ),
    (
        [("fee", 1000, ["fee"], 46), ("a", 1000, ["use"], 47), ("b", 1000, ["use"], 48), ("all", 1000, [], 49), ("c", 1000, [], 50)],
        {"fee": 2200, "use": 1100},
        {"fee": 1000, "a": 1000, "b": 100, "all": 1000, "c": 200},
    ),
    ([("last", 1000, ["use"], 50)], {"fee": 612, "use": 68}, {"last": 68}),
    ([], {"fee": 100}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("wallets", "wanted", "expected"), WALLETS)
def test_wallets(wallets: Any, wanted: dict[str, int], expected: dict[str, int]) -> None:
    """applied_prepaid_credits_service: there fees are paid one after the other, here in proportion: grants pay the same."""
    held = [
        holding(name, cents, may, priority, number)
        for number, (name, cents, may, priority) in enumerate(wallets)
    ]
    paid, left = pay(held, wanted)
    assert sum(paid.values()) + left == sum(wanted.values())
    assert paid == expected


# -- against a model -----------------------------------------------------------------------------------------------------
LINES = ("a", "b", "c", "d")
held_ones = st.lists(
    st.tuples(st.integers(1, 400), st.lists(st.sampled_from(LINES), max_size=3, unique=True), st.integers(0, 2)),
    max_size=6,
)  # fmt: skip


def most(held: Sequence[Holding], wanted: dict[str, int]) -> int:
    """The most that grants can pay together, whatever goes where: the least cut (what is cut off is paid in full, of the rest
    no more than those hold who may pay for it)."""
    parts = chain.from_iterable(combinations(wanted, count) for count in range(len(wanted) + 1))
    return min(
        sum(wanted[name] for name in part)
        + sum(
            int(one.grant.amount * 100)
            for one in held
            if any(
                one.grant.scope.covers(meter=None, charge=name, plan=None)
                for name in wanted
                if name not in part
            )
        )
        for part in parts
    )


@given(held_ones, st.dictionaries(st.sampled_from(LINES), st.integers(0, 700), min_size=1))
def test_each_grant_pays_as_much_as_any_sharing_out_would_let_it(
    grants: list[tuple[int, list[str], int]], wanted: dict[str, int]
) -> None:
    held = [
        holding(str(number), cents, may, priority, number)
        for number, (cents, may, priority) in enumerate(grants)
    ]
    paid, left = pay(held, wanted)
    assert sum(paid.values()) + left == sum(wanted.values())
    ordered = sorted(held, key=lambda one: one.grant.burn_order())
    for count in range(1, len(ordered) + 1):
        first = ordered[:count]
        assert sum(paid.get(one.grant.id, 0) for one in first) == most(first, wanted)


def test_many_narrow_credits_are_searched_once() -> None:
    """3,000 of a cent each for one line, half of them needless, beside a line that none may pay."""
    held = [holding(f"{number:05}", 1, ["a"]) for number in range(3000)]
    paid, left = pay(held, {"a": 1500, "b": 7})
    assert (sum(paid.values()), left) == (1500, 7)
    wide = [holding(f"w{number:05}", 1, priority=1) for number in range(1500)]
    paid, left = pay([*wide, *held[:1500]], {"a": 1500, "b": 1500})
    assert (sum(paid.values()), left) == (3000, 0)
