"""What of channels and deliveries is kept. A protocol of its own, apart from the catalog's: metering runs without it.

A *notice* is a piece of news (an alert has fired, an invoice is final). Enqueuing one makes a *delivery* for each channel it
goes to; ids follow from the notice's id and the channel, so that enqueuing it again changes nothing. The conventions are
those of interface.py.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from tallystick.catalog.interface import SYSTEM, Actor, Page

ChannelType = Literal["webhook", "email", "slack"]
CHANNEL_TYPES: tuple[ChannelType, ...] = ("webhook", "email", "slack")
Signature = Literal["hmac", "ed25519"]
SIGNATURES: tuple[Signature, ...] = ("hmac", "ed25519")
DeliveryStatus = Literal["pending", "delivered", "dead"]
DELIVERY_STATUSES: tuple[DeliveryStatus, ...] = ("pending", "delivered", "dead")

CHANNELS_PER_TENANT_MAX = 1000
CHANNELS_PER_CUSTOMER_MAX = 20
RECIPIENTS_MAX = 20
BODY_BYTES_MAX = 256 * 1024
GONE, DELETED, DISABLED = "gone", "channel_deleted", "channel_disabled"


EVENT_KIND = "event.recorded"
"""The kind of news that an event is. It is no part of `*`: whoever wants every event says so."""
EVENT_KINDS = ("event", "event.*", EVENT_KIND)
BATCH_EVENTS_MAX = 500


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Of which events a channel is told. Empty: of all. `filter`: values of dimensions of the meter."""

    type: tuple[str, ...] = ()
    customer: tuple[str, ...] = ()
    meter: str | None = None
    filter: dict[str, str] = {}


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a person sets of a channel. `url` of a webhook or a Slack hook, `to` of e-mail. `events`: kinds it subscribes to
    (`*`, `invoice.*`, `alert.fired`), beside what names the channel itself. `ordered`: one at a time, in the order of
    enqueuing; one that fails holds back those behind it. `match` and `batch`: which events it is told of, if
    of any, and how many at once."""

    type: ChannelType
    name: str
    url: str | None = None
    to: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    ordered: bool = False
    signature: Signature | None = None
    enabled: bool = True
    match: Match | None = None
    batch: int = 1

    @property
    def wants_events(self) -> bool:
        """Whether it is told of every event that is recorded."""
        return any(wanted in EVENT_KINDS for wanted in self.events)


@dataclass(frozen=True, slots=True)
class Channel:
    """`customer`: whose it is; None: the tenant's. `disabled_reason`: why the server itself does not send any more
    (`gone`: the endpoint answered 410). The secrets are sealed."""

    number: int
    tenant: str
    key: str
    customer: str | None
    setup: Setup
    secret: str | None = field(repr=False)
    previous_secret: str | None = field(repr=False)
    previous_until_us: int | None
    disabled_reason: str | None
    created_at_us: int
    changed_at_us: int

    @property
    def sends(self) -> bool:
        return self.setup.enabled and self.disabled_reason is None


@dataclass(frozen=True, slots=True)
class Notice:
    """A piece of news. `id`: the same for the same news, whoever asks again. `kind`: dotted, such as `alert.fired`.
    `data`: JSON, with decimals as text. `customer`: whom it is about; None: the tenant.

    It goes to the channels named, and (unless `only_named`) to those that subscribe to its kind. A customer's channel is
    given only what is about that customer or one below it."""

    tenant: str
    id: str
    kind: str
    summary: str
    data: Mapping[str, Any]
    at_us: int
    customer: str | None = None
    channels: tuple[str, ...] = ()
    only_named: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice for one channel. `body`: JSON, the same bytes at every attempt. `due_at_us`: when it is tried next."""

    number: int
    tenant: str
    id: str
    notice: str
    channel_number: int
    channel: str
    owner: str | None
    customer: str | None
    kind: str
    summary: str
    body: str
    status: DeliveryStatus
    created_at_us: int
    due_at_us: int
    attempts: int
    retries: int
    claim: int
    last_status: int | None
    last_error: str | None
    finished_at_us: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was sent where and what came back. `error`: a stable code; None: it went well. `status`: HTTP's."""

    attempt: int
    at_us: int
    duration_us: int
    target: str
    request_headers: Mapping[str, str]
    status: int | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict[str, str])
    answer: str = ""
    error: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt means. `due_at_us`: when to try again, while it is pending. `disable`: send nothing more to this
    channel, for this reason."""

    status: DeliveryStatus
    due_at_us: int = 0
    disable: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt of a delivery as it was taken, and what it means."""

    delivery: Delivery
    attempt: Attempt
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DeliverySearch:
    """None: any. `owners`: of channels of these customers alone."""

    channel: str | None = None
    status: str | None = None
    kind: str | None = None
    customer: str | None = None
    owners: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """A channel that is told of events, and how far: see the table channel_feeds."""

    channel: Channel
    moment_us: int
    position: int | None
    version: int


class FeedMovedError(Exception):
    """Somebody else has moved it, or the channel is not told any more: read again."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Deliveries taken to be sent, each with its channel; and when the next one is due that nobody has taken."""

    items: tuple[tuple[Delivery, Channel], ...]
    next_due_us: int | None


class DeliveryCatalog(Protocol):
    """See above."""

    # -- channels -----------------------------------------------------------------------------------------------
    def create_channel(
        self,
        tenant: str,
        key: str,
        setup: Setup,
        *,
        customer: str | None,
        secret: str | None,
        recorded_us: int | None = None,
        actor: Actor,
        now_us: int,
    ) -> Channel:
        """One that is told of events is told of those recorded after the moment `recorded_us` (None: after now).

        Raises Conflict (channel_exists, too_many_channels), NotFound (customer_not_found)."""
        ...

    def change_channel(
        self,
        tenant: str,
        key: str,
        setup: Setup,
        *,
        expected: Callable[[Channel], None] = lambda present: None,
        secret: str | None = None,
        overlap_us: int = 0,
        recorded_us: int | None = None,
        actor: Actor,
        now_us: int,
    ) -> Channel:
        """What is set replaces what was, and a channel the server has disabled sends again. With a `secret`, the one
        before stays good for `overlap_us`. Disabling it ends what is pending. `expected` is called with the present state
        within the transaction: what it raises ends the change. Raises NotFound (channel_not_found)."""
        ...

    def delete_channel(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[Channel], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> None:
        """What is pending for it ends. Raises NotFound (channel_not_found)."""
        ...

    def channel(self, tenant: str, key: str) -> Channel:
        """Raises NotFound (channel_not_found)."""
        ...

    def channels(
        self,
        tenant: str,
        *,
        customers: Collection[str] | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Channel]:
        """By key; with `customers`, those of these customers alone."""
        ...

    # -- deliveries ---------------------------------------------------------------------------------------------
    def enqueue(self, notice: Notice, *, now_us: int) -> tuple[str, ...]:
        """`deliveries.enqueue` in a transaction of its own: the ids of its deliveries."""
        ...

    def delivery(self, tenant: str, name: str, *, owners: Collection[str] | None = None) -> Delivery:
        """Raises NotFound (delivery_not_found): also where the channel was of nobody in `owners`."""
        ...

    def deliveries(
        self, tenant: str, search: DeliverySearch, *, cursor: str | None = None, limit: int = 100
    ) -> Page[Delivery]:
        """Newest first."""
        ...

    def delivery_attempts(self, delivery: Delivery, *, limit: int = 100) -> tuple[Attempt, ...]:
        """The latest, oldest first."""
        ...

    def resend_delivery(
        self,
        tenant: str,
        name: str,
        *,
        owners: Collection[str] | None = None,
        actor: Actor = SYSTEM,
        now_us: int,
    ) -> Delivery:
        """Due now under the same id, and the schedule of retries from its beginning. Raises NotFound
        (delivery_not_found), Conflict (channel_disabled, channel_deleted)."""
        ...

    def take_deliveries(
        self,
        busy: Mapping[int, int],
        slots: Callable[[Channel], int],
        *,
        until_us: int,
        limit: int,
        now_us: int,
    ) -> Taken:
        """Due ones, of each channel at most `slots` less those it is `busy` with (by number). Taken again by whoever asks
        from `until_us` on."""
        ...

    def finish_delivery(self, delivery: Delivery, attempt: Attempt, verdict: Verdict, *, now_us: int) -> bool:
        """Write down an attempt under the claim it was taken with. False: somebody else has it by now, and nothing was
        written."""
        ...

    def finish_deliveries(self, finished: Sequence[Finished], *, now_us: int) -> list[bool]:
        """The same of many, written together: of each whether it was."""
        ...

    def give_back_deliveries(self, deliveries: Sequence[Delivery], *, now_us: int) -> None:
        """Make those due at once that were taken and are not sent after all. Those that another has taken stay as they are."""
        ...

    def forget_deliveries(self, before_us: int, *, limit: int = 1000) -> int:
        """Delete those finished before this moment, with their attempts; how many."""
        ...

    # -- events -------------------------------------------------------------------------------------------------
    def feeds(self) -> tuple[Feed, ...]:
        """Of all channels that are told of events and are sent to, of tenants that are not deleted."""
        ...

    def pending_of(self, channel_number: int) -> int:
        """Deliveries of a channel that are pending."""
        ...

    def advance_feed(
        self, feed: Feed, moment_us: int, position: int | None, notices: Sequence[Notice], *, now_us: int
    ) -> Feed:
        """Enqueue these and be this far, all of it or nothing. Raises FeedMovedError."""
        ...

    def delivery_backlog(self) -> int:
        """Deliveries that are pending."""
        ...
