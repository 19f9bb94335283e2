"""Where a customer's plan, usage, spend and health are shown to those who talk to customers.

Owns: how an account looks to that system, and by what it is found there. Does not own: what is told, and when (flows/crm.py).
Telling twice is telling once: an account is found by the customer's key, and its properties are set, never added to. Calls are
synchronous, from threads; they raise errors.Unavailable when the system does not answer, or asks to wait (`retry_after_s`), and
errors.Invalid (code crm_refused) when nothing it is told will do, such as with a token that is not valid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

Value = str | Decimal | None


@dataclass(frozen=True, slots=True)
class Account:
    """A customer. `facts` by plain names, such as `plan` or `usage_tokens`; None: there is none, and what was there goes."""

    key: str
    name: str
    facts: Mapping[str, Value]


class Crm(Protocol):
    """See above. `accounts_max`: how many it takes at once."""

    @property
    def accounts_max(self) -> int: ...

    def push(self, accounts: Sequence[Account]) -> Mapping[str, str]:
        """Make or change these accounts; the keys of those it does not take, and why not."""
        ...

    def close(self) -> None: ...
