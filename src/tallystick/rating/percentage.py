"""`percentage {rate, fixed_amount, free_transactions, free_amount, min_per_transaction, max_per_transaction}`.

`rate` percent of what flows through, and a fixed amount for each transaction that is paid for. The free allowance ends
when *either* limit is used up: with the transaction after the last free one, or with the one that brings the running
total to `free_amount` (of which the part within the allowance stays free; its fixed amount is due). The least and the
greatest amount hold for each paid transaction, its fixed amount included. A limit of 0 is none. (Lago's rules; there the
last two are silently ignored without a licence.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

from tallystick.document import Document
from tallystick.money import ZERO, plain, product
from tallystick.rating.model import Needs, Rated, Step, Usage, total
from tallystick.rating.tier import PERCENT_MAX

FREE_TRANSACTIONS_MAX = 10**9
HUNDREDTH = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Percentage:
    """The rule depends on the order of transactions only where there is a free allowance."""

    rate_percent: Decimal
    fixed_amount: Decimal = ZERO
    free_transactions: int = 0
    free_amount: Decimal = ZERO
    min_per_transaction: Decimal | None = None
    max_per_transaction: Decimal | None = None
    name: ClassVar[str] = "percentage"

    @classmethod
    def read(cls, document: Document) -> "Percentage":
        made = cls(
            document.required_decimal("rate", most=PERCENT_MAX),
            document.decimal("fixed_amount") or ZERO,
            document.integer("free_transactions", least=0, most=FREE_TRANSACTIONS_MAX) or 0,
            document.decimal("free_amount") or ZERO,
            document.decimal("min_per_transaction"),
            document.decimal("max_per_transaction"),
        )
        least, most = made.min_per_transaction, made.max_per_transaction
        if least is not None and most is not None and least > most:
            document.fault("min_above_max", "is greater than max_per_transaction.", "min_per_transaction")
        return made

    def rate(self, parts: Sequence[Usage]) -> Rated:
        if not self.needs().transactions and not (self.fixed_amount and _listed(parts)):
            return self._rate_sum(parts)
        values = list(_transactions(parts))
        steps: list[Step] = []
        free_count, free_total = self._free(values)
        if free_count or free_total:
            steps.append(Step("free", ZERO, quantity=free_total, rate=ZERO))
        paid = values[free_count:]
        # The part of the first paid transaction that still lies within the allowance.
        rest_free = free_total - sum(values[:free_count], ZERO)
        if not paid:
            return Rated.of(steps)
        percent = fixed = least = most = ZERO
        for index, value in enumerate(paid):
            part = product(value - rest_free if index == 0 else value, self.rate_percent, HUNDREDTH)
            amount = part + self.fixed_amount
            percent += part
            fixed += self.fixed_amount
            if self.min_per_transaction is not None and amount < self.min_per_transaction:
                least += self.min_per_transaction - amount
            elif self.max_per_transaction is not None and amount > self.max_per_transaction:
                most += self.max_per_transaction - amount
        steps.append(Step("percent", percent, quantity=sum(paid, ZERO) - rest_free, rate=self.rate_percent))
        if self.fixed_amount:
            steps.append(Step("fixed", fixed, quantity=Decimal(len(paid)), unit_amount=self.fixed_amount))
        if least:
            steps.append(Step("min_per_transaction", least, unit_amount=self.min_per_transaction))
        if most:
            steps.append(Step("max_per_transaction", most, unit_amount=self.max_per_transaction))
        return Rated.of(steps)

    def _free(self, values: Sequence[Decimal]) -> tuple[int, Decimal]:
        """How many transactions are free, and the amount that is free, of the first paid one included."""
        if not self.free_transactions and not self.free_amount:
            return 0, ZERO
        running, count = ZERO, 0
        for value in values:
            if self.free_transactions and count >= self.free_transactions:
                return count, running
            if self.free_amount and running + value >= self.free_amount:
                return count, self.free_amount
            running += value
            count += 1
        return count, running

    def _rate_sum(self, parts: Sequence[Usage]) -> Rated:
        """Where single transactions make no difference but by their number."""
        quantity = total(parts)
        steps = [
            Step(
                "percent",
                product(quantity, self.rate_percent, HUNDREDTH),
                quantity=quantity,
                rate=self.rate_percent,
            )
        ]
        if self.fixed_amount:
            count = Decimal(sum(_count(part) for part in parts))
            steps.append(
                Step(
                    "fixed", product(count, self.fixed_amount), quantity=count, unit_amount=self.fixed_amount
                )
            )
        return Rated.of(steps)

    def needs(self) -> Needs:
        one_by_one = (
            self.free_transactions > 0
            or self.free_amount > 0
            or self.min_per_transaction is not None
            or self.max_per_transaction is not None
        )
        return Needs(transactions=one_by_one, transaction_count=self.fixed_amount > 0)

    def to_wire(self) -> dict[str, Any]:
        return {
            "rate": plain(self.rate_percent),
            "fixed_amount": plain(self.fixed_amount),
            "free_transactions": self.free_transactions,
            "free_amount": plain(self.free_amount),
            "min_per_transaction": None
            if self.min_per_transaction is None
            else plain(self.min_per_transaction),
            "max_per_transaction": None
            if self.max_per_transaction is None
            else plain(self.max_per_transaction),
        }


def _listed(parts: Sequence[Usage]) -> bool:
    return any(part.transactions is not None for part in parts)


def _count(part: Usage) -> int:
    if part.transaction_count is not None:
        return part.transaction_count
    return 1 if part.quantity else 0


def _transactions(parts: Sequence[Usage]) -> Iterator[Decimal]:
    """One by one; a quantity of which nothing more is known is one transaction, unless it is 0."""
    for part in parts:
        if part.transactions is not None:
            yield from part.transactions
        elif part.quantity:
            yield part.quantity
