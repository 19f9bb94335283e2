"""How the tables lie: on one server as they are declared, or over the shards and replicas of a cluster.

The room's SQL is written for one server. On a cluster each table `X` becomes two: `X_local`, replicated within each shard,
and `X`, `Distributed` over the shards; statements that declare or change tables are rewritten here, and run on all
servers. Questions and inserts stay as they are: they go to `X`.

Rows lie on the shard of their (tenant, customer), so that a question about customers goes to their shards alone. Small
tables that say something of the whole installation are replicated to all servers of all shards.
"""

import re
from dataclasses import dataclass
from typing import Any

from tallystick.errors import Invalid

# What was inserted under a token within so many blocks, or so long, is not inserted again. A recorder repeats its last
# batch alone, so that the windows are ample; servers keep 10,000 blocks for an hour by default.
_WINDOW = "replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800"

_EVERYWHERE = frozenset({"schema_versions", "fences", "token_salts"})
_BY_CUSTOMER = "cityHash64(tenant, customer)"
_KEYS = {
    "duplicates": "cityHash64(tenant, source, id)",
    "forgotten": "cityHash64(identity)",
    "identities": "key",
}
_ORDER = {"corrections": "(original, position)", "staged": "(tenant, backfill, position)"}
_COLD = frozenset({"events", "duplicates", "conflicts", "corrections", "readings"})

_CREATE = re.compile(
    r"CREATE TABLE IF NOT EXISTS `?(\w+)`?\s*(\(.*\))\s*ENGINE = (\w*MergeTree)\s(.*?)(\s*COMMENT '\w+')?\s*",
    re.DOTALL,
)
_CREATE_LIKE = re.compile(r"CREATE TABLE (\w+) AS (\w+)")
_ALTER = re.compile(r"ALTER TABLE `?(\w+)`?\s+(.*)", re.DOTALL)
_OPTIMIZE = re.compile(r"OPTIMIZE TABLE (\w+)(.*)")
_REMOVE = re.compile(r"(DROP|TRUNCATE) TABLE (IF EXISTS )?`?(\w+)`?( SYNC)?")
_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")

READ_SETTINGS: dict[str, Any] = {
    # Subqueries are answered by all shards before the rows they are held against are read.
    "distributed_product_mode": "global",
    "optimize_skip_unused_shards": 1,
    "skip_unavailable_shards": 0,  # an answer without a shard's rows is a wrong answer
    "fallback_to_stale_replicas_for_distributed_queries": 0,
    # A replica answers only once it has everything that was acknowledged; this needs inserts one after the other.
    "select_sequential_consistency": 1,
}
WRITE_SETTINGS: dict[str, Any] = {
    **READ_SETTINGS,
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",  # of the replicas of each shard, more than half
    "insert_quorum_parallel": 0,
    "insert_quorum_timeout": 30_000,
    "parallel_distributed_insert_select": 2,  # roll-ups lie where their readings do
    "mutations_sync": 3,  # waits for the replicas that are there; the others follow when they return
    "alter_sync": 3,
    "allow_nondeterministic_mutations": 1,  # deletions by what another table holds
    "distributed_ddl_task_timeout": 180,
}


@dataclass(frozen=True, slots=True)
class Storage:
    """Where parts lie. `policy`: the server's storage policy for all tables, "" for its default. Facts and readings
    recorded more than `cold_after_days` ago move to the policy's volume `cold_volume`; 0: they stay."""

    policy: str = ""
    cold_volume: str = ""
    cold_after_days: int = 0

    @staticmethod
    def of(policy: str, cold_volume: str, cold_after_days: int) -> "Storage":
        """As settings say it: without a volume nothing moves. Raises Invalid for what cannot be a name."""
        for setting, name in (("store_storage_policy", policy), ("store_cold_volume", cold_volume)):
            if name and not is_safe_name(name):
                raise Invalid(
                    f"{setting}: {name!r} is no name of a ClickHouse server's.", code="invalid_setting"
                )
        if cold_volume and cold_after_days < 1:
            raise Invalid("store_cold_after_days must be 1 or more.", code="invalid_setting")
        return Storage(policy, cold_volume, cold_after_days if cold_volume else 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """One server (`cluster` empty), or a cluster by the name its servers know it by."""

    cluster: str = ""
    database: str = ""
    storage: Storage = Storage()

    def statements(self, sql: str) -> list[str]:
        """What does here what this statement does on one server. Statements about rows come back as they are."""
        text = sql.strip()
        if match := _CREATE.fullmatch(text):
            return self._create(*match.groups())
        if not self.cluster:
            return [text]
        if match := _CREATE_LIKE.fullmatch(text):
            return self._create_like(*match.groups())
        if match := _ALTER.fullmatch(text):
            return self._alter(*match.groups())
        if match := _OPTIMIZE.fullmatch(text):
            return [f"OPTIMIZE TABLE `{self.local(match[1])}`{self._on}{match[2]}"]
        if match := _REMOVE.fullmatch(text):
            return self._remove(*match.groups())
        return [text]

    def local(self, table: str) -> str:
        """The table that holds a table's rows on one server."""
        return f"{table}_local" if self.cluster and table not in _EVERYWHERE else table

    def is_known(self, table: str) -> bool:
        """Whether a name among all tables is one that the room speaks of."""
        return not (self.cluster and table.endswith("_local"))

    def of_cluster(self, table: str) -> str:
        """A table of the engine's own (`system.…`), as one replica of each shard has it."""
        return f"cluster('{self.cluster}', {table})" if self.cluster else table

    @property
    def _on(self) -> str:
        return f" ON CLUSTER '{self.cluster}'"

    def _create(self, table: str, columns: str, engine: str, rest: str, comment: str | None) -> list[str]:
        rest = self._stored(table, rest)
        comment = comment or ""
        if not self.cluster:
            return [f"CREATE TABLE IF NOT EXISTS `{table}` {columns} ENGINE = {engine} {rest}{comment}"]
        rest = rest.replace(
            "non_replicated_deduplication_window = 1000",
            f"non_replicated_deduplication_window = 1000, {_WINDOW}",
        )
        if table in _EVERYWHERE:
            place = f"'/clickhouse/tables/all/{{database}}/{table}', '{{shard}}-{{replica}}'"
            return [
                f"CREATE TABLE IF NOT EXISTS `{table}`{self._on} {columns} "
                f"ENGINE = Replicated{engine}({place}) {rest}{comment}"
            ]
        local = self.local(table)
        place = f"'/clickhouse/tables/{{shard}}/{{database}}/{local}', '{{replica}}'"
        return [
            f"CREATE TABLE IF NOT EXISTS `{local}`{self._on} {columns} "
            f"ENGINE = Replicated{engine}({place}) {rest}{comment}",
            f"CREATE TABLE IF NOT EXISTS `{table}`{self._on} AS `{local}` "
            f"ENGINE = {self._distributed(table)}{comment}",
        ]

    def _distributed(self, table: str) -> str:
        key = _KEYS.get(table, _BY_CUSTOMER)
        return f"Distributed('{self.cluster}', '{self.database}', '{self.local(table)}', {key})"

    def _stored(self, table: str, rest: str) -> str:
        storage = self.storage
        before, found, settings = rest.partition("SETTINGS")
        if storage.cold_after_days and table in _COLD:
            before = f"{before.rstrip()} TTL {self.cold_rule}\n"
        if storage.policy and found:
            settings = f" storage_policy = '{storage.policy}',{settings}"
        return f"{before}{found}{settings}"

    @property
    def cold_rule(self) -> str:
        """The TTL expression of tables that are moved, "" for none."""
        storage = self.storage
        if not storage.cold_after_days:
            return ""
        # Parts of facts lie in the order of recording; event times may be anything.
        return (
            f"toDateTime(recorded_at) + toIntervalDay({storage.cold_after_days:d})"
            f" TO VOLUME '{storage.cold_volume}'"
        )

    @property
    def moved(self) -> frozenset[str]:
        """Tables whose old parts move."""
        return _COLD

    def _create_like(self, table: str, original: str) -> list[str]:
        """For a snapshot or a test: rows on each server apart, in the order of the original's, not replicated."""
        name = original.removesuffix("_local")
        local = f"{table}_local"
        policy = f" SETTINGS storage_policy = '{self.storage.policy}'" if self.storage.policy else ""
        order = _ORDER.get(name, "position")
        return [
            f"CREATE TABLE `{local}`{self._on} AS `{self.local(name)}` ENGINE = MergeTree ORDER BY {order}{policy}",
            f"CREATE TABLE `{table}`{self._on} AS `{local}` ENGINE = "
            f"Distributed('{self.cluster}', '{self.database}', '{local}')",
        ]

    def _alter(self, table: str, change: str) -> list[str]:
        local = self.local(table)
        attach = re.fullmatch(r"ATTACH PARTITION ID 'all' FROM (\w+)", change)
        if attach:
            source = self.local(attach[1])
            return [
                f"SYSTEM SYNC REPLICA{self._on} `{self.database}`.`{source}` LIGHTWEIGHT",
                f"ALTER TABLE `{local}`{self._on} ATTACH PARTITION ID 'all' FROM `{source}`",
            ]
        if change.startswith("MODIFY SETTING non_replicated"):
            return []
        of_both = change.startswith(("ADD COLUMN", "MODIFY COMMENT")) and local != table
        changed = [local, table] if of_both else [local]
        return [f"ALTER TABLE `{one}`{self._on} {change}" for one in changed]

    def _remove(self, verb: str, if_exists: str | None, table: str, sync: str | None) -> list[str]:
        local = self.local(table)
        removed = [table, local] if verb == "DROP" and local != table else [local]
        return [f"{verb} TABLE {if_exists or ''}`{one}`{self._on}{sync or ''}" for one in removed]


def is_safe_name(name: str) -> bool:
    """Whether a cluster, policy or volume may be named so: names come from settings, and become part of statements."""
    return bool(_SAFE.fullmatch(name))
