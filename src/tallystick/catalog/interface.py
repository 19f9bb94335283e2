"""Everything a person configures: tenants, API keys, meters, customers and their subjects, backfills.

Owns: the configuration, its versions and who changed it when (audit); how far each backfill is; answers kept for
`Idempotency-Key`.
Does not own: what a definition means (metering), facts and figures (store), the recorder's state (flows).

All calls are synchronous and may be made from any thread. A change, its audit row and the new revision are committed
together or not at all; changes are serialised, so revisions become visible in their order.

Times are microseconds since 1970 (`_us`). Every call may raise errors.Unavailable when the database cannot be reached
or stays locked. Lists are bounded by `limit` (1 to LIMIT_MAX) and go on with the opaque `cursor` of the page before; a
cursor that is none of ours raises errors.Invalid (code invalid_cursor).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from msgspec import UNSET, UnsetType

from tallystick.metering.meter import Aggregation, Dimension, InnerAggregation, Meter
from tallystick.telemetry.increment import Reached

DEFAULT_TENANT = "default"
ENVIRONMENTS = ("live", "test")
LIMIT_MAX = 1000
SUBJECTS_PER_CUSTOMER_MAX = 10_000
CUSTOMER_LEVELS_MAX = 10
"""How many customers may stand one above the other."""
METERS_PER_TENANT_MAX = 10_000
RETENTIONS_MAX = 1000
"""Types of a tenant whose facts are not kept for ever."""
BACKFILLS_OPEN_MAX = 100
"""Backfills of a tenant that are open or closing at the same time."""

T = TypeVar("T")
Topic = Literal["all", "present", "meters", "subjects", "keys", "alerts"]
"""`present`: everything but that customers were made of events, which changes nothing for those that were there."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `next_cursor` is None on the last one. Pages never repeat or skip a row because of inserts."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, for the audit: a key's name (or "system"), its id, the request it came with, and the network
    address that request came from."""

    name: str
    key_id: str | None = None
    request_id: str | None = None
    address: str | None = None


SYSTEM = Actor("system")
"""The server itself: first start, customers made for unknown subjects."""


class Definition(Protocol):
    """What the catalog reads of a valid meter definition: metering's MeterDefinition, or a Meter."""

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def event_type(self) -> str: ...
    @property
    def aggregation(self) -> Aggregation: ...
    @property
    def value(self) -> str | None: ...
    @property
    def dimensions(self) -> tuple[Dimension, ...]: ...
    @property
    def filter(self) -> str | None: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def description(self) -> str | None: ...
    @property
    def value_cel(self) -> str | None: ...
    @property
    def pair_by(self) -> str | None: ...
    @property
    def timeout_us(self) -> int | None: ...
    @property
    def of(self) -> InnerAggregation | None: ...


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose configuration and whose events. `environment` describes: in `test`, nothing is meant to be billed. While it is
    suspended its keys are refused, and what it has sent stays."""

    key: str
    name: str
    created_at_us: int
    environment: str = "live"
    suspended_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class DeletedTenant:
    """`export`: where what it has sent was written to; "": it is not to be; None: it was not yet."""

    key: str
    deleted_at_us: int
    export: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a secret authenticates. `scopes` with wildcards spelled out ("admin" is not: see `allows`). Who caches a Caller
    must let go of it at `expires_at_us`, and when `revision("keys")` changes."""

    tenant: str
    scopes: frozenset[str]
    key_id: str
    name: str
    customer: str | None = None  # a portal token sees this customer and its children alone
    expires_at_us: int | None = None
    suspended: bool = False  # its tenant is

    def allows(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret. `prefix` is the public beginning of the secret, for telling keys apart.
    `configured`: it comes from the setting `admin_key` and is changed there only."""

    id: str
    tenant: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    configured: bool
    last_used_at_us: int | None = None  # to within a minute
    previous_until_us: int | None = None  # how long the secret before the last rotation is good


@dataclass(frozen=True, slots=True)
class ApiKeyChange:
    """What to set; what is UNSET stays."""

    name: str | UnsetType = UNSET
    scopes: Collection[str] | UnsetType = UNSET
    expires_at_us: int | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key just made or rotated; the only moment its secret is known."""

    key: ApiKey
    secret: str = field(repr=False)


TokenKind = Literal["portal", "session"]


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. `portal`: it is bound to `customer` and those below; `session`: of a person, `name`.
    `issued_by`: the API key whose revocation ends it as well."""

    id: str
    tenant: str
    kind: TokenKind
    name: str
    customer: str | None
    scopes: tuple[str, ...]
    issued_by: str | None
    created_at_us: int
    expires_at_us: int
    revoked_at_us: int | None
    last_used_at_us: int | None = None  # to within a minute


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made; the only moment its secret is known."""

    token: Token
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long facts of one type are kept, in event time; None: for ever. Facts from before `forgotten_before_us` are
    deleted, or are being deleted; None: none ever were."""

    tenant: str
    type: str
    keep_days: int | None
    forgotten_before_us: int | None = None


Stage = Literal["onboarding", "trial", "active", "suspended", "offboarded"]
STAGE_MOVES: Mapping[str, tuple[Stage, ...]] = {
    "onboarding": ("trial", "active", "offboarded"),
    "trial": ("active", "suspended", "offboarded"),
    "active": ("suspended", "offboarded"),
    "suspended": ("active", "offboarded"),
    "offboarded": (),
}
"""Where a customer may go from each stage of its life: forward, save that a suspended one may be active again (as
Amberflo has it). Stages describe; they stop no usage."""
STAGES = tuple(STAGE_MOVES)


@dataclass(frozen=True, slots=True)
class Customer:
    """Who pays. `subjects` are those declared for it, sorted; the subject named like its key is its own besides,
    unless another customer declares it."""

    tenant: str
    key: str
    name: str
    subjects: tuple[str, ...] = ()
    parent: str | None = None
    currency: str | None = None  # ISO 4217
    timezone: str = "UTC"  # IANA
    email: str | None = None
    external_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    traits: Mapping[str, Any] = field(default_factory=dict[str, Any])  # any JSON object, at most 64 KiB
    created_at_us: int = 0
    archived_at_us: int | None = None
    stage: str = "active"
    merged_into: str | None = None  # it is archived then, and below that one


@dataclass(frozen=True, slots=True)
class CustomerSearch:
    """Which customers to list; None: any. `external_id`: (system, id). `text`: somewhere in the key, the name or the email,
    whatever its capital letters (SQLite: those of ASCII)."""

    stage: str | None = None
    parent: str | None = None
    external_id: tuple[str, str] | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class CustomerChange:
    """What to set; what is UNSET stays. Used for creating too, where UNSET means the default (`name`: the key)."""

    name: str | UnsetType = UNSET
    subjects: Collection[str] | UnsetType = UNSET  # replaces all declared ones
    parent: str | UnsetType | None = UNSET
    currency: str | UnsetType | None = UNSET
    timezone: str | UnsetType = UNSET
    email: str | UnsetType | None = UNSET
    external_ids: Mapping[str, str] | UnsetType = UNSET
    traits: Mapping[str, Any] | UnsetType = UNSET
    stage: str | UnsetType = UNSET


BackfillState = Literal["open", "closing", "closed", "reverting", "reverted"]
BACKFILL_STEPS: Mapping[BackfillState, tuple[BackfillState, ...]] = {
    "open": ("closing", "closed"),
    "closing": ("closed",),
    "closed": ("reverting", "reverted"),
    "reverting": ("reverted",),
    "reverted": (),
}
"""Where a backfill may go from each state."""
BACKFILL_COUNTS = ("staged", "recorded", "duplicates", "conflicts", "replaced", "retracted")
"""staged: events that were sent to it. The others are known once it is closed: recorded, those that were new;
duplicates and conflicts, those that were not; replaced, those that took the place of an event with their identity;
retracted, the events of its range that it took away."""


@dataclass(frozen=True, slots=True)
class BackfillRange:
    """The events a backfill takes the place of: those in [from_us, to_us) of event time, of this type and customer."""

    from_us: int
    to_us: int
    type: str | None = None
    customer: str | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """Events that come to count all at once. `counts` has every name of BACKFILL_COUNTS."""

    tenant: str
    key: str
    reason: str
    author: str
    replace: BackfillRange | None
    state: BackfillState
    counts: Mapping[str, int]
    opened_at_us: int
    closed_at_us: int | None = None
    reverted_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class SubjectChanges:
    """What changed after a revision. `owners`: (tenant, subject) → customer now, None: belongs to nobody any more.
    `revision` is where to ask from next time; `complete` False: there is more, ask again at once."""

    revision: int
    owners: Mapping[tuple[str, str], str | None]
    complete: bool


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """One `Idempotency-Key` as one API key sent it on one route ("POST /v1/meters")."""

    tenant: str
    key_id: str
    route: str
    key: str  # 1 to 255 characters


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The answer to replay. Secrets in it are the caller's to remove before `finish_idempotent`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change. `action` is like "meter.create", `resource` like "meter/tokens"; `before` and `after` are JSON
    objects (None: there was, is nothing). They never hold secrets."""

    id: int
    at_us: int
    tenant: str
    actor: str
    key_id: str | None
    action: str
    resource: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    request_id: str | None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """Which audit rows to list; None: any. `action` and `resource` may end in `*`: all that begin so. `text` stands
    anywhere in a row, capital letters or not (ASCII). Times are half-open."""

    actor: str | None = None  # a key's name or id
    action: str | None = None
    resource: str | None = None
    request_id: str | None = None
    from_us: int | None = None
    to_us: int | None = None
    text: str | None = None


class Catalog(Protocol):
    """One contract suite (tests/catalog/contract.py) holds for every implementation."""

    # -- retention ---------------------------------------------------------------------------------------------
    def set_retention(
        self,
        tenant: str,
        event_type: str,
        keep_days: int | None,
        *,
        expected: Callable[[Sequence[Retention]], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> Retention:
        """`expected` is asked within the transaction about the tenant's; what it raises ends the change.
        Raises Conflict (too_many_retentions)."""
        ...

    def retentions(self, tenant: str | None = None) -> list[Retention]:
        """Of one tenant, or of all, by tenant and type."""
        ...

    def advance_forgotten(self, tenant: str, event_type: str, before_us: int, *, now_us: int) -> None:
        """Note, before the first of them is deleted, that facts from before this moment go. Never moves back."""
        ...

    # -- counters ------------------------------------------------------------------------------------------------
    def advance_counters(
        self,
        tenant: str,
        series: Collection[str],
        advance: Callable[[Mapping[str, Reached]], tuple[Mapping[str, Reached], Iterable[bytes]]],
    ) -> list[int]:
        """Move series of counters and write the events they become into the outbox, in one transaction; see
        catalog/counters.py. The numbers of what was written."""
        ...

    def counter_outbox(self, tenant: str) -> list[tuple[int, bytes]]:
        """Bodies of events (NDJSON) that are not known to be in the log, with their numbers, oldest first."""
        ...

    def clear_counter_outbox(self, tenant: str, numbers: Collection[int]) -> None:
        """These are in the log."""
        ...

    # -- keeping house ------------------------------------------------------------------------------------------
    def migrate(self) -> None:
        """Create or upgrade the tables. Idempotent, and safe when several processes start at once."""
        ...

    def ping(self) -> None:
        """Raise Unavailable when the database does not answer."""
        ...

    def close(self) -> None: ...

    def revision(self, topic: Topic = "all") -> int:
        """A number that grows with every change (of this topic): what snapshots are cached under. One indexed read.
        "meters": definitions, names, archiving; "subjects": who owns which; "keys": API keys and tenants;
        "alerts": alerts and limits."""
        ...

    # -- meters -------------------------------------------------------------------------------------------------
    def create_meter(self, tenant: str, definition: Definition, *, actor: Actor, now_us: int) -> Meter:
        """Version 1 of a new key, or the next version of an archived one, which is then active again.
        Raises Conflict (meter_exists; too_many_meters)."""
        ...

    def change_meter(
        self,
        tenant: str,
        key: str,
        definition: Definition,
        *,
        expected: Callable[[Meter], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Meter:
        """`expected`, here and below: called with the present state within the transaction; what it raises ends the
        change. A changed definition becomes the next version with an id of its own; changes of name, description or unit
        alone apply to all versions; no change answers the present one and writes nothing. The order of dimensions is
        no change. Raises NotFound (meter_not_found), Conflict (meter_archived), Invalid (key_immutable)."""
        ...

    def archive_meter(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[Meter], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Meter:
        """It derives nothing any more; its history stays readable. Idempotent. Raises NotFound (meter_not_found)."""
        ...

    def meter(self, tenant: str, key: str, version: int | None = None) -> Meter:
        """The newest version, or the one asked for; archived ones too.
        Raises NotFound (meter_not_found, meter_version_not_found)."""
        ...

    def meters(
        self, tenant: str, *, archived: bool = False, cursor: str | None = None, limit: int = 100
    ) -> Page[Meter]:
        """Newest versions, ordered by key; with `archived`, the archived ones as well."""
        ...

    def meter_versions(self, tenant: str, key: str) -> tuple[Meter, ...]:
        """All versions, oldest first. Raises NotFound (meter_not_found)."""
        ...

    def active_meters(self) -> tuple[Meter, ...]:
        """The newest version of every meter of every tenant that is not archived, ordered by id."""
        ...

    def meters_by_id(self, ids: Collection[int]) -> dict[int, Meter]:
        """Versions by Meter.id, whatever their state; ids there are not are absent."""
        ...

    # -- customers and subjects ---------------------------------------------------------------------------------
    def create_customer(
        self,
        tenant: str,
        key: str,
        customer: CustomerChange,
        *,
        reassign: bool = False,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        """A new customer; or an archived one active again, with these values.
        Raises Invalid with every fault (parent_not_found among them) and Conflict (customer_exists; external_id_taken;
        subject_taken, unless `reassign`: then the subjects move here from now on)."""
        ...

    def change_customer(
        self,
        tenant: str,
        key: str,
        change: CustomerChange,
        *,
        reassign: bool = False,
        expected: Callable[[Customer], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        """Raises NotFound (customer_not_found), Invalid (parent_cycle and others), Conflict (subject_taken,
        external_id_taken, stage_not_allowed, customer_archived)."""
        ...

    def archive_customer(
        self,
        tenant: str,
        key: str,
        *,
        expected: Callable[[Customer], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        """It leaves the lists. It keeps its subjects: usage that still comes stays its own. Idempotent.
        Raises NotFound (customer_not_found)."""
        ...

    def customer(self, tenant: str, key: str) -> Customer:
        """Archived ones too. Raises NotFound (customer_not_found)."""
        ...

    def merge_customers(
        self,
        tenant: str,
        key: str,
        into: str,
        *,
        expected: Callable[[Customer], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> Customer:
        """From now on everything of `key` is `into`'s: its subjects, its children, its external ids in systems where
        `into` has none. `key` is archived and stands below `into`; what was recorded for it stays its own, so `into`
        shows it when it is asked with its children. Answers `into`. Doing it again changes nothing.
        Raises NotFound (customer_not_found), Invalid (merge_into_itself, too_many_levels), Conflict (customer_merged,
        into another; customer_archived; too_many_subjects)."""
        ...

    def customers(
        self,
        tenant: str,
        search: CustomerSearch = CustomerSearch(),
        *,
        archived: bool = False,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Customer]:
        """In the order of their creation; with `archived`, the archived ones as well."""
        ...

    def children(self, tenant: str, keys: Collection[str], *, at_us: int | None = None) -> tuple[str, ...]:
        """Keys of all customers below any of these, however deep, sorted; archived ones too. The keys asked for are in
        it only when they are below another of them. `at_us`: as it was at an earlier moment, out of the audit."""
        ...

    def resolve_subjects(self, tenant: str, subjects: Collection[str]) -> dict[str, str]:
        """Subject → customer, for those that belong to one; others are absent."""
        ...

    def create_unknown(
        self, tenant: str, subjects: Collection[str], *, actor: Actor = SYSTEM, now_us: int
    ) -> dict[str, str]:
        """Subject → customer for all of them: those that belong to nobody get a new customer with the subject as key,
        name and declared subject. One transaction and one audit row for all."""
        ...

    def subject_map(self, tenant: str) -> dict[str, str]:
        """All of a tenant: subject → customer."""
        ...

    def subject_changes(self, since_revision: int, *, limit: int = 1_000_000) -> SubjectChanges:
        """What changed in all tenants after a revision; from 0 on: everything there is."""
        ...

    # -- tenants and keys ---------------------------------------------------------------------------------------
    def create_tenant(
        self, key: str, name: str, *, environment: str = "live", actor: Actor, now_us: int
    ) -> tuple[Tenant, NewApiKey]:
        """A tenant and its first key, with scope admin. Raises Conflict (tenant_exists: deleted ones keep their key),
        Invalid."""
        ...

    def tenants(self, *, cursor: str | None = None, limit: int = 100) -> Page[Tenant]:
        """Ordered by key."""
        ...

    def tenant(self, key: str) -> Tenant:
        """Raises NotFound (tenant_not_found): deleted ones, too."""
        ...

    def change_tenant(
        self,
        key: str,
        *,
        name: str | None = None,
        suspended: bool | None = None,
        expected: Callable[[Tenant], None] = lambda present: None,
        actor: Actor,
        now_us: int,
    ) -> Tenant:
        """What is None stays. `expected` is asked within the transaction; what it raises ends the change. Raises NotFound (tenant_not_found), Conflict (tenant_default: it cannot be suspended),
        Invalid."""
        ...

    def delete_tenant(self, key: str, *, export: bool = True, actor: Actor, now_us: int) -> None:
        """Its keys stop working and its meters derive nothing any more. What it has sent is erased later, after it was
        exported (unless not wanted): flows/erase.py. Its key is never given again.
        Raises NotFound (tenant_not_found), Conflict (tenant_default)."""
        ...

    def tenants_to_erase(self) -> list[DeletedTenant]:
        """Deleted ones whose facts are not gone yet, by key."""
        ...

    def note_export(self, key: str, place: str, *, now_us: int) -> None:
        """What a deleted tenant has sent is written to this place."""
        ...

    def erase_tenant(self, key: str, *, now_us: int) -> None:
        """Delete what the catalog knows of a deleted tenant but for its audit, its meters and its revoked keys: customers,
        subjects, tokens, kept answers; and note that its facts are gone."""
        ...

    def authenticate(self, secret: str, *, now_us: int) -> Caller | None:
        """Whom an API key or a token stands for. None: unknown, revoked or expired, or its tenant is deleted, or for a
        token the key that made it is revoked. An indexed read or two."""
        ...

    def ensure_admin_key(self, configured: str | None, *, now_us: int) -> str | None:
        """At start. A configured key gets every scope in the tenant `default` and replaces those configured before.
        Without one, and when `default` has no valid admin key: make one and answer its secret, to be printed once."""
        ...

    def create_api_key(
        self,
        tenant: str,
        *,
        name: str,
        scopes: Collection[str],
        expires_at_us: int | None,
        actor: Actor,
        now_us: int,
    ) -> NewApiKey:
        """Raises Invalid (unknown_scope, expires_in_past …). Who may grant which scope is the caller's to decide."""
        ...

    def api_keys(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> Page[ApiKey]:
        """In the order of their creation, revoked ones too."""
        ...

    def api_key(self, tenant: str, key_id: str) -> ApiKey:
        """Revoked ones too. Raises NotFound (api_key_not_found)."""
        ...

    def change_api_key(
        self,
        tenant: str,
        key_id: str,
        change: ApiKeyChange,
        *,
        expected: Callable[[ApiKey], None] | None = None,
        actor: Actor,
        now_us: int,
    ) -> ApiKey:
        """`expected` is called with the present state within the transaction: what it raises ends the change.
        No change writes nothing. Raises NotFound, Invalid, Conflict (api_key_revoked, api_key_configured)."""
        ...

    def rotate_api_key(
        self, tenant: str, key_id: str, *, overlap_us: int = 0, actor: Actor, now_us: int
    ) -> NewApiKey:
        """A new secret under the same id; the old one goes on for `overlap_us`, the one before it stops at once.
        Raises NotFound (api_key_not_found), Conflict (api_key_revoked, api_key_configured)."""
        ...

    def note_used(self, key_ids: Collection[str], *, at_us: int) -> None:
        """These keys and tokens were used at this moment; unknown ids are ignored. No change: no audit, no revision."""
        ...

    def revoke_api_key(self, tenant: str, key_id: str, *, actor: Actor, now_us: int) -> ApiKey:
        """Idempotent. Raises NotFound (api_key_not_found), Conflict (api_key_configured)."""
        ...

    # -- tokens -------------------------------------------------------------------------------------------------
    def create_token(
        self,
        tenant: str,
        *,
        kind: TokenKind,
        name: str,
        customer: str | None,
        scopes: Collection[str],
        issued_by: str | None,
        expires_at_us: int,
        actor: Actor,
        now_us: int,
    ) -> NewToken:
        """Raises Invalid, NotFound (customer_not_found). Who may grant which scope is the caller's to decide."""
        ...

    def tokens(
        self,
        tenant: str,
        *,
        kind: TokenKind,
        customer: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        now_us: int,
    ) -> Page[Token]:
        """Those that have not expired, revoked ones among them, in the order of their creation."""
        ...

    def revoke_token(
        self, tenant: str, token_id: str, *, kind: TokenKind, actor: Actor, now_us: int
    ) -> Token:
        """Idempotent. Raises NotFound (token_not_found)."""
        ...

    # -- backfills ----------------------------------------------------------------------------------------------
    def create_backfill(
        self,
        tenant: str,
        key: str,
        *,
        reason: str,
        author: str,
        replace: BackfillRange | None,
        actor: Actor,
        now_us: int,
    ) -> Backfill:
        """An open one. Raises Conflict (backfill_exists; too_many_backfills)."""
        ...

    def backfill(self, tenant: str, key: str) -> Backfill:
        """Raises NotFound (backfill_not_found)."""
        ...

    def backfills(
        self,
        tenant: str,
        *,
        state: BackfillState | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Backfill]:
        """Newest first; with `state`, those in it."""
        ...

    def advance_backfill(
        self,
        tenant: str,
        key: str,
        *,
        to_state: BackfillState,
        counts: Mapping[str, int] | None = None,
        actor: Actor = SYSTEM,
        now_us: int,
    ) -> Backfill:
        """Compare and set along BACKFILL_STEPS, with an audit row. `counts` replace those of the same name. In the state
        asked for already: only the counts are set, so that repeating a call changes nothing.
        Raises NotFound (backfill_not_found), Conflict (backfill_not_open, where it cannot be closed;
        backfill_not_closed, where it cannot be reverted)."""
        ...

    def discard_backfill(self, tenant: str, key: str, *, actor: Actor = SYSTEM, now_us: int) -> Backfill:
        """Forget an open one; answers what it was. Its key may be used again.
        Raises NotFound (backfill_not_found), Conflict (backfill_not_open)."""
        ...

    # -- Idempotency-Key ----------------------------------------------------------------------------------------
    def take_idempotent(
        self, idempotency: IdempotencyKey, request_hash: bytes, *, now_us: int
    ) -> StoredAnswer | None:
        """None: it is yours, run the request, then `finish_idempotent` or `release_idempotent`. Otherwise the answer
        to replay. Of racing requests one gets None. Raises Invalid (idempotency_key_reused: other request under this
        key) and Conflict (idempotency_key_in_use: the first one still runs; one that has not finished after 60 s is
        given up). Answers are forgotten after 24 h."""
        ...

    def finish_idempotent(
        self, idempotency: IdempotencyKey, answer: StoredAnswer, *, now_us: int
    ) -> None: ...

    def release_idempotent(self, idempotency: IdempotencyKey) -> None:
        """The request came to nothing (an error worth a retry): the key may be used again."""
        ...

    def forget_idempotent(self, *, now_us: int) -> int:
        """Delete answers older than 24 h, at most 10,000 a call; how many were deleted."""
        ...

    # -- audit --------------------------------------------------------------------------------------------------
    def audit(
        self,
        tenant: str,
        search: AuditSearch = AuditSearch(),
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[AuditRow]:
        """Newest first."""
        ...

    def note(
        self,
        tenant: str,
        action: str,
        resource: str,
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        actor: Actor,
        now_us: int,
    ) -> None:
        """An audit row for what happens outside of the catalog: corrections, exports. Moves no topic but "all"."""
        ...
