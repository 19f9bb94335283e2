"""Credits: the peers' own cases, and what must hold for all grants: accounts sum to zero, nothing is lost or invented."""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.billing.credit import (
    Account,
    Entry,
    Holding,
    Payable,
    accounts,
    burn_down,
    give_back,
    settle,
    spend,
)
from tallystick.billing.grant import (
    CreditUnit,
    Grant,
    Recurrence,
    Rollover,
    Scope,
    Source,
    read_grant,
)
from tallystick.billing.period import Length, Unit
from tallystick.errors import Invalid

VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
PAGE = Path(__file__).parents[2] / "docs" / "pricing-differences.md"
AREAS = {
    "coupon", "wallet", "entitlement",
    "grant_burn", "grant_priority", "grant_recurrence", "grant_latest", "reset_rollover",
}  # fmt: skip

D = Decimal
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
T0 = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
CENT = D("0.01")

with_vectors = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors of ../shared are not beside this checkout"),
]


def cases(file: str) -> dict[str, Any]:
    if not VECTORS.is_dir():
        return {}
    listed = json.loads((VECTORS / file).read_text())["vectors"]
    return {one["id"]: one for one in listed if one["area"] in AREAS}


LAGO, OPENMETER = cases("lago.json"), cases("openmeter.json")


def grant(name: str = "g", amount: Any = 100, **members: Any) -> Holding:
    values = {"effective_us": T0, "created_us": T0, "unit": CreditUnit(meter="tokens"), **members}
    return Holding(Grant(id=name, customer="acme", amount=D(str(amount)), **values))


def hours(text: str) -> int:
    """+25h, +24h30m, -1d, 1h in microseconds."""
    sign, made, number = (-1 if text.startswith("-") else 1), 0, ""
    for letter in text.lstrip("+-"):
        if letter.isdigit():
            number += letter
        else:
            made += int(number) * {"m": HOUR_US // 60, "h": HOUR_US, "d": DAY_US}[letter]
            number = ""
    return sign * made


def summed(events: Sequence[Sequence[Any]]) -> Callable[[int, int], Decimal]:
    at = [(T0 + hours(offset), D(value)) for offset, value in events]
    return lambda from_us, to_us: sum((value for us, value in at if from_us <= us < to_us), D(0))


def latest(events: Sequence[Sequence[Any]]) -> Callable[[int, int], Decimal]:
    at = [(T0 + hours(offset), D(value)) for offset, value in events]
    return lambda from_us, to_us: ([value for us, value in at if from_us <= us < to_us] or [D(0)])[-1]


def balances(holdings: Sequence[Holding]) -> dict[str, Decimal]:
    return {one.grant.id: one.balance for one in holdings}


# -- OpenMeter ------------------------------------------------------------------------------------------------------
def om_burn(given: Any, expect: Any) -> None:
    one = grant(amount=given["grant"]["amount"], priority=1, expires_us=T0 + 30 * DAY_US)
    made = burn_down([one], summed(given["usage"]), T0 + hours(given.get("run_from", "+0h")), T0 + DAY_US)
    assert made.holdings[0].balance == expect["balance"]
    if "overage_at_grant_start" in expect:
        assert made.phases[0].overage == expect["overage_at_grant_start"]


def om_several(given: Any, expect: Any) -> None:
    held = [grant(str(index), amount) for index, amount in enumerate(given["grants"])]
    made = burn_down(held, lambda *_: D(given["usage"]), T0, T0 + HOUR_US)
    assert [one.balance for one in made.holdings] == expect["balances"]


def om_priority(given: Any, expect: Any) -> None:
    held = [
        grant(str(index), one["amount"], priority=one["priority"])
        for index, one in enumerate(given["grants"])
    ]
    made = burn_down(held, lambda *_: D(given["usage"]), T0, T0 + HOUR_US)
    assert [one.balance for one in made.holdings] == expect["balances"]


def om_many(given: Any, expect: Any) -> None:
    count = given["grants"]["count"]
    held = [
        grant(f"{index:06d}", given["grants"]["amount"], expires_us=T0 + (9 if index == 777 else 10) * DAY_US)
        for index in range(count)
    ]
    begun = settle(held, T0).holdings
    spent = spend(begun, [Payable("x", D(given["usage"]))], at_us=T0, reference=None, quantum=D(1))
    assert spent.holdings[777].balance == expect["early"]
    assert {one.balance for one in spent.holdings} == {expect["early"], expect["every_other"]}
    assert len(spent.entries) == 1


def om_recurrence(given: Any, expect: Any) -> None:
    daily = Recurrence(Length(Unit.DAY, 1), T0 + DAY_US, "UTC", D(100))
    held = [
        grant("a", priority=1, recurrence=daily),
        grant("b", priority=2, effective_us=T0 + hours("+25h")),
    ]
    made = burn_down(held, summed(given["usage"]), T0, T0 + hours(given["at"]))
    assert balances(made.holdings) == {"a": expect["a"], "b": expect["b"]}
    assert len(made.phases) == expect["segments"]
    assert [phase.begin["a"] for phase in made.phases] == expect["a_at_segment_start"]


def om_latest(given: Any, expect: Any) -> None:
    held = [
        grant(
            str(index),
            one["amount"],
            priority=one["priority"],
            effective_us=T0 + hours(one.get("effective", "+0h")),
            expires_us=T0 + hours(one["expires"]) if "expires" in one else None,
        )
        for index, one in enumerate(given["grants"])
    ]
    made = burn_down(held, latest(given["usage"]), T0, T0 + hours(given["at"]))
    assert sum(balances(made.holdings).values()) == expect["balance"]
    segments = [
        {"start": sum(one.begin.values()), "used": one.used, "end": sum(one.end.values())}
        for one in made.phases
    ]
    assert segments == expect["segments"]


def om_reset(given: Any, expect: Any) -> None:
    rollover = Rollover(D(given["rollover"].get("min", 0)), D(given["rollover"]["max"]))
    at_us = T0 + hours(given.get("reset", "+5h"))
    nothing_new = Recurrence(Length(Unit.YEAR, 1), at_us, "UTC", D(0))
    one = grant(amount=given["grant"], rollover=rollover, recurrence=nothing_new)
    made = burn_down([one], summed([["+1h", given["used"]]]), T0, at_us)
    assert made.holdings[0].balance == expect["balance"]
    assert made.phases[-1].overage == expect.get("overage_carried", 0)


def om_entitlement(given: Any, expect: Any) -> None:
    matching = given["events"]["gpt-4"]
    made = burn_down([grant(amount=given["grant"])], lambda *_: D(matching), T0, T0 + HOUR_US)
    assert (made.holdings[0].balance, made.overage) == (expect["balance"], expect["overage"])
    assert made.phases[0].begin["g"] == expect["totalAvailableGrantAmount"]


def om_subjects(given: Any, expect: Any) -> None:
    used = D(given["customer_subjects"] * given["events_per_subject"])
    made = burn_down([grant(amount=given["issueAfterReset"])], lambda *_: used, T0, T0 + HOUR_US)
    assert sum(one.used for one in made.phases) == expect["usage"]
    assert made.holdings[0].balance == given["issueAfterReset"] - expect["usage"]


OPENMETER_RUN: dict[str, Callable[[Any, Any], None]] = {
    "G02": om_burn, "G04": om_burn, "G05": om_several, "G06": om_priority, "G08": om_many, "G12": om_recurrence,
    "G13": om_latest, "R01": om_reset, "R02": om_reset, "E03": om_entitlement, "E04": om_subjects,
}  # fmt: skip


# -- Lago -----------------------------------------------------------------------------------------------------------
def cents(value: Any) -> Decimal:
    return D(value) / 100


def money(name: str, amount: Decimal, **members: Any) -> Holding:
    return grant(name, amount, unit=CreditUnit(currency="EUR"), **members)


def pay(held: Sequence[Holding], payables: Sequence[Payable]) -> Any:
    return spend(settle(held, T0).holdings, payables, at_us=T0, reference="invoice", quantum=CENT)


def lago_coupon(given: Any, expect: Any) -> None:
    """A coupon of an amount is a promotional grant; one that is for ever comes again with each period."""
    credited = [cents(one) for one in given.get("already_credited", [0] * len(given["fees"]))]
    fees = [
        Payable(str(index), cents(fee) - credited[index], charge=str(index))
        for index, fee in enumerate(given["fees"])
    ]
    limited = given.get("limited_to_fees", [given["limited_to_fee"]] if "limited_to_fee" in given else [])
    forever = given.get("frequency") == "forever"
    amount = cents(given["fixed_cents"])
    one = money(
        "coupon",
        amount,
        source=Source.PROMOTIONAL,
        scope=Scope(charges=frozenset(map(str, limited))),
        recurrence=Recurrence(Length(Unit.MONTH, 1), T0, "UTC", amount) if forever else None,
    )
    held = settle([one], T0).holdings
    used = cents(given.get("already_used", 0))
    if used:
        held = spend(held, [Payable("", used, charge="0")], at_us=T0, reference=None, quantum=CENT).holdings
    spent = spend(held, fees, at_us=T0, reference="invoice", quantum=CENT)
    assert spent.amount == cents(expect["credit"])
    paid = [fee.amount - left for fee, left in zip(fees, spent.left, strict=True)]
    if "per_fee" in expect:
        assert paid == [cents(one) for one in expect["per_fee"]]
    if "per_fee_total" in expect:
        assert [a + b for a, b in zip(paid, credited, strict=True)] == [
            cents(one) for one in expect["per_fee_total"]
        ]
    if "terminated" in expect:
        after = settle(spent.holdings, T0 + 40 * DAY_US).holdings[0]
        assert (after.balance == 0) is expect["terminated"]


def lago_wallet(given: Any, expect: Any) -> None:
    held = [
        money(
            one["id"],
            cents(one["cents"]),
            priority=one["priority"],
            scope=Scope(meters=frozenset({"*"} if "charge" in one["id"] else ())),
            created_us=T0 + index,
        )
        for index, one in enumerate(given["wallets"])
    ]
    spent = pay(held, [Payable("fee", cents(given["invoice_cents"]), meter="tokens")])
    paid = {entry.grant: entry.amount for entry in spent.entries}
    assert paid == {name: cents(amount) for name, amount in expect["spend"].items()}


LAGO_RUN: dict[str, Callable[[Any, Any], None]] = {
    **dict.fromkeys(("coupon-3", "coupon-4", "coupon-8", "coupon-9", "coupon-11"), lago_coupon),
    **dict.fromkeys(("wallet-1", "wallet-2"), lago_wallet),
}


@pytest.mark.parametrize("name", [name for name in (*LAGO_RUN, *OPENMETER_RUN) if VECTORS.is_dir()])
@pytest.mark.shared_data
def test_vector(name: str) -> None:
    if name in LAGO_RUN:
        LAGO_RUN[name](LAGO[name]["given"], LAGO[name]["expect"])
    else:
        OPENMETER_RUN[name](OPENMETER[name]["input"], OPENMETER[name]["expect"])


@pytest.mark.shared_data
@pytest.mark.skipif(not VECTORS.is_dir(), reason="the vectors of ../shared are not beside this checkout")
def test_every_case_is_run_or_its_difference_is_explained() -> None:
    listed = {name for name in (*LAGO, *OPENMETER) if f"`{name}`" in PAGE.read_text()}
    assert not listed & {*LAGO_RUN, *OPENMETER_RUN}
    assert {*LAGO, *OPENMETER} - {*LAGO_RUN, *OPENMETER_RUN} - listed == set()


# -- time -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rollover", "left"),
    [
        (Rollover(), 100),  # OpenMeter's recurrence: back to the amount
        (Rollover(D(0), None), 190),  # Lago's recurring top-up: what is left adds up
        (Rollover(D(0), D(50)), 150),
        (Rollover(D(95), D(95)), 195),  # a minimum raises what is left
    ],
)
def test_what_is_left_rolls_over(rollover: Rollover, left: int) -> None:
    monthly = Recurrence(Length(Unit.MONTH, 1), T0, "UTC", D(100))
    begun = settle([grant(recurrence=monthly, rollover=rollover)], T0).holdings
    spent = spend(begun, [Payable("x", D(10))], at_us=T0, reference=None, quantum=D(1)).holdings
    assert settle(spent, T0 + 31 * DAY_US - 1).holdings[0].balance == 90
    assert settle(spent, T0 + 31 * DAY_US).holdings[0].balance == left


def test_at_its_end_nothing_is_left_and_it_does_not_come_again() -> None:
    daily = Recurrence(Length(Unit.DAY, 1), T0, "UTC", D(100))
    one = grant(recurrence=daily, expires_us=T0 + 2 * DAY_US)
    made = settle([one], T0 + 9 * DAY_US)
    assert [(entry.kind, (entry.at_us - T0) // DAY_US) for entry in made.entries] == [
        ("grant", 0), ("expire", 1), ("recur", 1), ("expire", 2),
    ]  # fmt: skip
    assert made.holdings[0].ended
    assert made.holdings[0].next_us is None


def test_what_is_given_back_to_an_ended_grant_ends_again() -> None:
    held = settle([grant(expires_us=T0 + DAY_US)], T0).holdings
    spent = spend(held, [Payable("x", D(30))], at_us=T0, reference="i", quantum=D(1))
    later = settle(spent.holdings, T0 + DAY_US)
    back = give_back(later.holdings, spent.entries, at_us=T0 + 2 * DAY_US)
    assert [entry.kind for entry in back.entries] == ["give_back", "expire"]
    assert back.holdings[0].balance == 0
    early = give_back(spent.holdings, spent.entries, at_us=T0 + 1)
    assert early.holdings[0].balance == 100


# -- what holds for all ---------------------------------------------------------------------------------------------
def grants() -> st.SearchStrategy[list[Holding]]:
    day = st.integers(-5, 20)

    @st.composite
    def one(draw: st.DrawFn) -> Holding:
        effective = draw(day)
        lasts = draw(st.none() | st.integers(1, 30))
        recurs = draw(st.none() | st.integers(1, 9))
        least = draw(st.integers(0, 40))
        return grant(
            draw(st.uuids()).hex,
            draw(st.integers(1, 200)),
            priority=draw(st.integers(0, 3)),
            effective_us=T0 + effective * DAY_US,
            expires_us=None if lasts is None else T0 + (effective + lasts) * DAY_US,
            voided_us=draw(st.none() | day.map(lambda at: T0 + at * DAY_US)),
            recurrence=None
            if recurs is None
            else Recurrence(Length(Unit.DAY, recurs), T0, "UTC", D(draw(st.integers(0, 90)))),
            rollover=Rollover(D(least), draw(st.none() | st.integers(40, 99).map(D))),
            source=draw(st.sampled_from(Source)),
        )

    return st.lists(one(), max_size=6)


acts = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["spend", "back", "wait"]), st.integers(1, 120)),
    max_size=12,
)


@given(grants(), acts)
def test_accounts_always_sum_to_zero_and_agree_with_the_balances(
    held: list[Holding], steps: list[tuple[int, str, int]]
) -> None:
    ledger: list[Entry] = []
    holdings: tuple[Holding, ...] = tuple(held)
    consumed: list[Entry] = []
    for day, act, amount in sorted(steps, key=lambda step: step[0]):
        at_us = T0 + day * DAY_US
        settled = settle(holdings, at_us)
        holdings = settled.holdings
        ledger += settled.entries
        assert settle(holdings, at_us).entries == ()
        if act == "spend":
            payables = [Payable("a", D(amount)), Payable("b", D(amount // 3))]
            before = sum(one.balance for one in holdings)
            spent = spend(holdings, payables, at_us=at_us, reference=str(day), quantum=CENT)
            assert spent.amount + sum(spent.left) == amount + amount // 3
            assert spent.amount == min(before, amount + amount // 3)
            holdings, consumed = spent.holdings, [*spent.entries]
            ledger += spent.entries
        elif act == "back":
            back = give_back(holdings, consumed, at_us=at_us)
            holdings, consumed = back.holdings, []
            ledger += back.entries
        found = accounts(ledger)
        assert sum(found.values()) == 0
        for one in holdings:
            assert one.balance >= 0
            assert found.get((Account.GRANT, one.grant.id), D(0)) == one.balance
            assert found.get((Account.CONSUMED, one.grant.id), D(0)) >= 0


@given(grants(), st.lists(st.integers(0, 50), max_size=10))
def test_settling_often_is_settling_once(held: list[Holding], days: list[int]) -> None:
    often: tuple[Holding, ...] = tuple(held)
    entries: list[Entry] = []
    for day in sorted(days):
        made = settle(often, T0 + day * DAY_US)
        often = made.holdings
        entries += made.entries
    once = settle(held, T0 + max(days, default=-99) * DAY_US)
    assert [(one.balance, one.ended) for one in often] == [(one.balance, one.ended) for one in once.holdings]
    assert accounts(entries) == accounts(once.entries)


@given(grants(), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 60)), max_size=8))
def test_use_is_paid_or_overage_and_nothing_else(held: list[Holding], use: list[tuple[int, int]]) -> None:
    at = [(T0 + day * DAY_US + HOUR_US, D(value)) for day, value in use]

    def used(from_us: int, to_us: int) -> Decimal:
        return sum((value for us, value in at if from_us <= us < to_us), D(0))

    made = burn_down(held, used, T0, T0 + 31 * DAY_US)
    assert sum(one.used for one in made.phases) == sum(value for _, value in at)
    assert all(one.balance >= 0 for one in made.holdings)
    unpaid = any(one.balance for one in made.holdings)
    assert not (unpaid and made.overage), "what is left pays overage first"
    found = accounts(made.entries)
    assert sum(found.values()) == 0
    assert {
        name: amount for (account, name), amount in found.items() if account is Account.GRANT and amount
    } == {one.grant.id: one.balance for one in made.holdings if one.balance}
    assert [one.from_us for one in made.phases[1:]] == [one.to_us for one in made.phases[:-1]]


# -- reading --------------------------------------------------------------------------------------------------------
def read(**members: Any) -> Grant:
    raw = {"customer": "acme", "amount": "10", "currency": "USD", **members}
    return read_grant(raw, grant_id="g", created_us=T0, timezone="Europe/Berlin")


def test_a_grant_comes_back_as_it_was_written() -> None:
    made = read(
        priority=3,
        source="promotional",
        effective_at="2024-02-01T00:00:00Z",
        expires_at="2025-02-01T00:00:00.5Z",
        rollover={"max": "5"},
        recurrence={"every": "month", "amount": 7},
        scope={"meters": ["tokens"], "plans": ["pro"]},
        name="Welcome",
    )
    assert made.recurrence is not None
    assert made.recurrence.timezone == "Europe/Berlin"
    assert read_grant(made.to_wire(), grant_id="g", created_us=T0) == made


@pytest.mark.parametrize(
    ("members", "codes"),
    [
        ({"currency": None}, ["credit_unit_needed"]),
        ({"meter": "tokens"}, ["credit_unit_needed"]),
        ({"currency": "XXQ"}, ["unknown_currency"]),
        ({"amount": "1.001"}, ["too_precise"]),
        ({"amount": "1.5", "currency": "JPY"}, ["too_precise"]),
        ({"amount": "-1"}, ["negative"]),
        ({"amount": "0"}, ["too_small"]),
        ({"amount": None, "priority": -1}, ["missing", "invalid_number"]),
        ({"expires_at": "2023-01-01T00:00:00Z"}, ["empty_range"]),
        ({"expires_at": "soon"}, ["invalid_time"]),
        ({"recurrence": "hour"}, ["invalid_period"]),
        ({"recurrence": {}}, ["missing"]),
        ({"rollover": {"min": "9", "max": "3"}}, ["too_small"]),
        ({"rollover": "lots"}, ["invalid_value"]),
        ({"source": "stolen", "colour": "red"}, ["invalid_value", "unknown_member"]),
        ({"currency": None, "meter": "t", "scope": {"plans": ["p"]}}, ["scope_not_allowed"]),
        ({"effective_at": "1875-01-01T00:00:00Z"}, ["time_out_of_range"]),
    ],
)
def test_every_fault_of_a_grant_is_told(members: dict[str, Any], codes: list[str]) -> None:
    with pytest.raises(Invalid) as error:
        read(**members)
    assert [fault.code for fault in error.value.faults] == codes
