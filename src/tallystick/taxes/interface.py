"""Asking what an invoice is taxed with. The default asks nobody: the customer's terms say.

An answer is frozen into the invoice and what it is made again from, so nobody is asked a second time for it. Calls are
synchronous, from threads; they raise errors.Unavailable (code taxes_unavailable) when there is no answer now, and
errors.Invalid (code taxes_refused) when there is one that is no answer: the invoice then waits, and is never final
without its taxes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tallystick.billing.terms import Tax


@dataclass(frozen=True, slots=True)
class TaxQuestion:
    """`customer`: key, name, e-mail, traits and external ids as JSON; `document`: the invoice as it is without the
    answer (billing/invoice.document_of)."""

    customer: Mapping[str, Any]
    document: Mapping[str, Any]


class TaxService(Protocol):
    def rates(self, question: TaxQuestion) -> tuple[Tax, ...]:
        """Each is a percentage of what the invoice comes to after its discount; none: it is free of tax."""
        ...
