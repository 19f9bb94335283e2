"""Where parts lie on the servers' disks, brought in line with the settings when these have changed."""

from tallystick.store.connection import Connection


def place(connection: Connection) -> None:
    """Give tables that are there the storage policy and the rule for old parts that the settings ask for. A policy can
    be changed only to one that has all volumes of the one before: the server refuses others."""
    layout = connection.layout
    if connection.embedded or not (layout.storage.policy or layout.storage.cold_after_days):
        return
    rows = connection.rows(
        "SELECT name, storage_policy, create_table_query FROM system.tables "
        "WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
    )
    declared = {row[0]: (row[1], row[2]) for row in rows}
    for table in sorted(layout.moved):
        policy, text = declared.get(layout.local(table), ("", ""))
        if not text:
            continue
        if layout.storage.policy and policy != layout.storage.policy:
            connection.command(
                f"ALTER TABLE {table} MODIFY SETTING storage_policy = '{layout.storage.policy}'"
            )
        if layout.cold_rule and layout.cold_rule not in text:
            connection.command(f"ALTER TABLE {table} MODIFY TTL {layout.cold_rule}")
