"""The catalog in SQLite or PostgreSQL: one spelling for both. One file a noun; here they are put together."""

from sqlalchemy import select

from tallystick.catalog import tables
from tallystick.catalog.alert_states import AlertStates
from tallystick.catalog.alerts import Alerts
from tallystick.catalog.api_keys import ApiKeys
from tallystick.catalog.audit import Audit
from tallystick.catalog.backfills import Backfills
from tallystick.catalog.channels import Channels
from tallystick.catalog.counters import Counters
from tallystick.catalog.credit_notes import CreditNotes
from tallystick.catalog.credits import Credits
from tallystick.catalog.customers import Customers
from tallystick.catalog.database import Database
from tallystick.catalog.dead_letters import DeadLetters
from tallystick.catalog.deliveries import Deliveries
from tallystick.catalog.exports import Exports
from tallystick.catalog.feeds import Feeds
from tallystick.catalog.idempotency import IdempotencyKeys
from tallystick.catalog.interface import Topic
from tallystick.catalog.invoices import Invoices
from tallystick.catalog.items import Items
from tallystick.catalog.limits import Limits
from tallystick.catalog.meters import Meters
from tallystick.catalog.payments import Payments
from tallystick.catalog.plans import Plans
from tallystick.catalog.reports import Reports
from tallystick.catalog.retention import Retentions
from tallystick.catalog.sources import Sources
from tallystick.catalog.subjects import Subjects
from tallystick.catalog.subscriptions import Subscriptions
from tallystick.catalog.tenants import Tenants
from tallystick.catalog.tokens import Tokens
from tallystick.catalog.views import Views


class RelationalCatalog(
    Meters,
    Customers,
    Subjects,
    Tenants,
    ApiKeys,
    Tokens,
    Backfills,
    Retentions,
    IdempotencyKeys,
    Audit,
    Plans,
    Subscriptions,
    Invoices,
    Credits,
    CreditNotes,
    Items,
    Payments,
    Limits,
    Channels,
    Deliveries,
    Feeds,
    Alerts,
    AlertStates,
    Counters,
    Sources,
    DeadLetters,
    Views,
    Reports,
    Exports,
):
    """The catalog at `url`: `sqlite:///path` (the directory is made) or `postgresql+psycopg://…`.

    Opening does not connect. Raises Invalid (code invalid_setting) for a URL that cannot be used."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def migrate(self) -> None:
        self._database.migrate()

    def ping(self) -> None:
        self._database.ping()

    def close(self) -> None:
        self._database.close()

    def revision(self, topic: Topic = "all") -> int:
        column = tables.revisions.c
        with self._database.reading() as connection:
            return connection.execute(select(column.revision).where(column.topic == topic)).scalar_one()
