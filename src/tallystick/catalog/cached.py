"""The catalog with what was read of it kept: fewer round trips while the database answers, answers while it does not.

What is kept belongs to a revision of its topic, asked for *before* it was read: it is at least as new as that. The
revision comes from the watch where there is one (PostgreSQL: at most catalog/watch.FRESH_S old; a change by this process
counts at once), otherwise from the database itself.

While the database does not answer, what is kept is answered as it is, up to OUTAGE_S_MAX after the last answer; what is
not kept, and every change, is refused (Unavailable). `revision` and whatever decides on facts (whose a subject is, at the
moment of recording) always ask the database.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from tallystick.catalog.interface import Customer, Meter, Page, Topic
from tallystick.catalog.relational import RelationalCatalog
from tallystick.catalog.watch import Watch
from tallystick.errors import Unavailable

OUTAGE_S_MAX = 3600.0
"""A process that is cut off does not hear that something was revoked: its memory counts for an hour and no longer."""
ENTRIES_MAX = 20_000
KEPT_ITEMS_MAX = 1_000
"""Answers about more than this at once are not kept."""

T = TypeVar("T")
_Key = tuple[Any, ...]


class CachedCatalog(RelationalCatalog):
    """See above. Opens no connection before `watch`, but the ones that calls need."""

    def __init__(self, url: str, *, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(url)
        self._elapsed_s = elapsed_s
        self._kept: OrderedDict[_Key, tuple[int, object]] = OrderedDict()
        self._lock = threading.Lock()
        self._answered_s = elapsed_s()
        self._watch: Watch | None = None

    def watch(self) -> None:
        """Begin to be told of changes, where the database can tell (after `migrate`)."""
        if self._database.dialect != "postgresql" or self._watch is not None:
            return
        self._watch = Watch(self._database.listener)
        watch = self._watch
        self._database.is_hanging = lambda: watch.is_hanging
        self._database.on_changed = watch.learn
        watch.start()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        super().close()

    # -- what is kept -------------------------------------------------------------------------------------------
    def meter(self, tenant: str, key: str, version: int | None = None) -> Meter:
        read = super().meter
        return self._read("meters", ("meter", tenant, key, version), lambda: read(tenant, key, version))

    def meters(
        self, tenant: str, *, archived: bool = False, cursor: str | None = None, limit: int = 100
    ) -> Page[Meter]:
        read = super().meters
        return self._read(
            "meters",
            ("meters", tenant, archived, cursor, limit),
            lambda: read(tenant, archived=archived, cursor=cursor, limit=limit),
        )

    def meter_versions(self, tenant: str, key: str) -> tuple[Meter, ...]:
        read = super().meter_versions
        return self._read("meters", ("meter_versions", tenant, key), lambda: read(tenant, key))

    def active_meters(self) -> tuple[Meter, ...]:
        return self._read("meters", ("active_meters",), super().active_meters)

    def meters_by_id(self, ids: Collection[int]) -> dict[int, Meter]:
        read = super().meters_by_id
        wanted = tuple(sorted(ids))
        # Callers own what they are given.
        return dict(self._read("meters", ("meters_by_id", wanted), lambda: read(wanted)))

    def customer(self, tenant: str, key: str) -> Customer:
        read = super().customer
        return self._read("subjects", ("customer", tenant, key), lambda: read(tenant, key))

    def children(self, tenant: str, keys: Collection[str], *, at_us: int | None = None) -> tuple[str, ...]:
        read = super().children
        wanted = tuple(sorted(set(keys)))
        if at_us is not None:
            return read(tenant, wanted, at_us=at_us)
        if len(wanted) > KEPT_ITEMS_MAX:
            return read(tenant, wanted)
        return self._read("subjects", ("children", tenant, wanted), lambda: read(tenant, wanted))

    # -- how it is kept -----------------------------------------------------------------------------------------
    def _read(self, topic: Topic, key: _Key, read: Callable[[], T]) -> T:
        with self._lock:
            found = self._kept.get(key)
        try:
            revision = self._revision_of(topic, may_ask=found is None)
            if found is not None and found[0] == revision:
                return cast("T", found[1])
            value = read()
        except Unavailable:
            if found is None or self._elapsed_s() - self._answered_s > OUTAGE_S_MAX:
                raise
            return cast("T", found[1])
        with self._lock:
            self._answered_s = self._elapsed_s()
            self._kept[key] = (revision, value)
            self._kept.move_to_end(key)
            while len(self._kept) > ENTRIES_MAX:
                self._kept.popitem(last=False)
        return value

    def _revision_of(self, topic: Topic, *, may_ask: bool) -> int:
        """Raises Unavailable where asking would only mean to wait, and there is something to answer without."""
        known = None if self._watch is None else self._watch.revision(topic)
        if known is None:
            if self._watch is not None and self._watch.is_troubled and not may_ask:
                raise Unavailable("The catalog's database does not answer.", retry_after_s=2)
            known = self.revision(topic)
        self._answered_s = self._elapsed_s()
        return known
