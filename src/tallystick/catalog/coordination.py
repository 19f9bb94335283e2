"""What the processes of a cluster share, over connections of their own: a lease is renewed in time whatever else the
catalog is asked."""

from tallystick.catalog.barriers import Barriers
from tallystick.catalog.database import Database, Limits
from tallystick.catalog.leases import Leases
from tallystick.catalog.news import News
from tallystick.catalog.outcomes import Outcomes
from tallystick.catalog.partitions import Partitions

_LIMITS = Limits(connections_max=8, connect_s_max=2, statement_s_max=2, idle_s_max=2)
"""A renewal that takes longer has missed its purpose; and a process that is frozen in the midst of a transaction must not
keep the others from taking over."""


class Coordination:
    """At the catalog's URL, in tables that the catalog's migrations make. Opening does not connect."""

    def __init__(self, url: str) -> None:
        self._database = Database(url, _LIMITS)
        self.leases = Leases(self._database)
        self.partitions = Partitions(self._database)
        self.barriers = Barriers(self._database)
        self.outcomes = Outcomes(self._database)
        self.news = News(self._database)

    def close(self) -> None:
        self.news.stop()
        self._database.close()
