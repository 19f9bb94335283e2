"""Rows of the log that carry no content of their own: actions (flows/actions.py)."""

import numpy as np

from tallystick.metering.event import EventColumns, content_of, identities_of


def bare_rows(
    tenant: str,
    sources: list[str],
    ids: list[str],
    now_us: int,
    *,
    action: str,
    note: bytes,
    subjects: list[str] | None = None,
) -> EventColumns:
    """Actions on these identities; `subjects` for those that are about subjects."""
    rows = len(ids)
    nothing, no_data = [""] * rows, [b""] * rows
    return EventColumns(
        tenant=tenant,
        received_at_us=now_us,
        source=sources,
        id=ids,
        type=nothing,
        subject=nothing if subjects is None else subjects,
        time_us=np.full(rows, now_us, np.int64),
        time_given=np.zeros(rows, np.bool_),
        data=no_data,
        attributes=no_data,
        identity=identities_of(tenant, sources, ids),
        content=content_of(nothing, nothing, no_data),
        action=action,
        note=note,
    )
