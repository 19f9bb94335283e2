"""What of alerts is kept: the alerts, the state of each, what has happened, and how far the keeper is. A protocol of its own,
apart from the catalog's: metering runs without it. The conventions are those of interface.py."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tallystick.catalog.interface import Actor, Page

ALERTS_PER_TENANT_MAX = 10_000
ALERTS_PER_CUSTOMER_MAX = 100
"""That a customer has made for itself."""


@dataclass(frozen=True, slots=True)
class KeptAlert:
    """`content`: the rule as JSON. `owner`: the customer whose alert it is; None: the tenant's. `edition`: see the table;
    `begun`: it was looked at as a whole once in this edition."""

    tenant: str
    owner: str | None
    key: str
    id: str
    customer: str
    content: str
    edition: int
    begun: bool
    judged_us: int | None
    muted_until_us: int | None
    created_at_us: int
    changed_at_us: int


@dataclass(frozen=True, slots=True)
class AlertDraft:
    """What is set of an alert. `decides`: what its states hang on has changed."""

    customer: str
    content: str
    decides: bool = False


@dataclass(frozen=True, slots=True, order=True)
class StatePlace:
    """Whose state: of an alert in an edition, in a window (0: of all time), of a customer and group."""

    alert: str
    edition: int
    window_start_us: int
    customer: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class KeptState:
    """`level`, `sequence`, `closed`, `since_us`: alerting/evaluate.State. `said_level`: what channels know. `value`: the
    figure at the last change, as text. `version` 0: it was never written."""

    place: StatePlace
    window_end_us: int | None = None
    level: int = 0
    said_level: int = 0
    sequence: int = 0
    closed: bool = False
    value: str | None = None
    since_us: int | None = None
    changed_at_us: int = 0
    version: int = 0

    @property
    def firing(self) -> bool:
        return self.level > 0 and not self.closed


@dataclass(frozen=True, slots=True)
class NewTransition:
    """What has happened to a state. `content`: the document a reader gets, without what the other members say."""

    id: str
    kind: str
    step: int
    at_us: int
    summary: str
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of what has happened. `muted`: nobody was told at the time."""

    number: int
    id: str
    tenant: str
    owner: str | None
    alert: str
    customer: str
    kind: str
    at_us: int
    muted: bool
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Move:
    """A state as it is to be from now on (its `version` is the one it was read at), and what led there."""

    state: KeptState
    transitions: tuple[NewTransition, ...] = ()


@dataclass(frozen=True, slots=True)
class Advance:
    """One step of the keeper, all of it or nothing. `begun`: (alert, edition) looked at as a whole; `judged`: by alert, up
    to where; `moment_us`: everything recorded up to here has been looked at."""

    moves: Sequence[Move] = ()
    begun: Sequence[tuple[str, int]] = ()
    judged: Sequence[tuple[str, int]] = ()
    moment_us: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """See the table alert_progress. `moment_us` None: the keeper has never run."""

    moment_us: int | None
    version: int


@dataclass(frozen=True, slots=True)
class TransitionSearch:
    """None: any. `owner`: of alerts of this customer alone. Times are half-open."""

    alert: str | None = None
    customer: str | None = None
    customers: tuple[str, ...] | None = None
    kind: str | None = None
    owner: str | None = None
    from_us: int | None = None
    to_us: int | None = None


class AlertsMovedError(Exception):
    """Somebody else has moved a state or the progress: read again, decide again."""


class AlertCatalog(Protocol):
    """See above."""

    def create_alert(
        self, tenant: str, owner: str | None, key: str, draft: AlertDraft, *, actor: Actor, now_us: int
    ) -> KeptAlert:
        """Raises Conflict (alert_exists, too_many_alerts), Invalid (unknown_channel)."""
        ...

    def change_alert(
        self,
        tenant: str,
        owner: str | None,
        key: str,
        change: Callable[[KeptAlert], AlertDraft],
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptAlert:
        """`change` is asked within the transaction; what it raises ends it. Raises NotFound (alert_not_found)."""
        ...

    def mute_alert(
        self,
        tenant: str,
        owner: str | None,
        key: str,
        until_us: int | None,
        *,
        actor: Actor,
        now_us: int,
    ) -> KeptAlert:
        """None: not any more. Raises NotFound (alert_not_found)."""
        ...

    def delete_alert(
        self,
        tenant: str,
        owner: str | None,
        key: str,
        *,
        expected: Callable[[KeptAlert], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> None:
        """Its states go, what has happened stays. Raises NotFound (alert_not_found)."""
        ...

    def alert(self, tenant: str, owner: str | None, key: str) -> KeptAlert:
        """Raises NotFound (alert_not_found)."""
        ...

    def alerts(
        self,
        tenant: str,
        *,
        owner: str | None = None,
        every: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptAlert]:
        """Of the tenant itself, of an owner, or `every` one, in the order of their creation."""
        ...

    def alert_states(
        self,
        alert: KeptAlert,
        *,
        firing: bool | None = None,
        customer: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptState]:
        """Of its present edition, those first that began last."""
        ...

    def transitions(
        self,
        tenant: str,
        search: TransitionSearch,
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Transition]:
        """Newest first."""
        ...

    def transitions_after(self, tenant: str, number: int | None, *, limit: int) -> tuple[Transition, ...]:
        """Oldest first, those behind one; for followers (streams). None: only the newest there is."""
        ...

    # -- the keeper's side --------------------------------------------------------------------------------------
    def every_alert(self) -> tuple[KeptAlert, ...]:
        """Of all tenants that are not deleted."""
        ...

    def alert_progress(self) -> Progress: ...

    def states_at(self, places: Collection[StatePlace]) -> dict[StatePlace, KeptState]:
        """Those there are."""
        ...

    def open_states(self, alerts: Collection[str]) -> tuple[KeptState, ...]:
        """That fire, of the present edition of these alerts."""
        ...

    def fired_states(self, alerts: Collection[str], window_start_us: int) -> tuple[KeptState, ...]:
        """Above level 0, closed or not, of one window and of the present edition of these alerts."""
        ...

    def unsaid_states(self, alerts: Collection[str]) -> tuple[KeptState, ...]:
        """Of which channels know something else than what is."""
        ...

    def tracked_states(self, alerts: Collection[str]) -> tuple[KeptState, ...]:
        """All of the present edition of these alerts."""
        ...

    def customer_zones(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        """The zone of each customer there is."""
        ...

    def customers_with_grants(self, tenant: str) -> tuple[str, ...]:
        """Those who have credits in any unit that have not ended."""
        ...

    def latest_transition(self, place: StatePlace) -> Transition | None: ...

    def advance_alerts(self, version: int, advance: Advance, *, now_us: int) -> int:
        """Moves states, adds transitions, enqueues what channels are to be told, in one transaction; the new version.
        Moves of alerts that are gone, or have another edition by now, are left out. Raises AlertsMovedError."""
        ...

    def say_again(self, version: int, states: Collection[KeptState], *, now_us: int) -> int:
        """Tell channels of what has happened while the alert was muted: of each state its last transition."""
        ...
