"""Aggregates of aggregates: a figure for each customer, group and inner window, then one figure over these."""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from tallystick.metering.meter import Aggregation
from tallystick.store.question import figure
from tallystick.store.question.borders import Borders
from tallystick.store.question.bound import Bound
from tallystick.store.question.figure import order_of
from tallystick.store.question.source import TIME_US, Asked, Source, group_columns, where_of


def of_figures(asked: Asked, bound: Bound, *, outer_edges_us: tuple[int, ...]) -> Source:
    """Inner windows are cut where an outer one ends. A figure lies where the last of its readings does."""
    query = asked.query
    assert query.meter.of is not None
    inner = query.meter.of.aggregation
    weighed = inner in figure.WEIGHED
    where = where_of(asked, bound, from_us=query.from_us, to_us=query.to_us, weighed=weighed)
    inner_edges_us = query.inner_edges_us or (query.from_us, query.to_us)
    windows = Borders(tuple(sorted({*inner_edges_us, *outer_edges_us})), bound)
    weighed = weighed and asked.taken_back
    latest = query.meter.aggregation is Aggregation.LATEST
    named = [f"{column} AS k{i}" for i, column in enumerate(group_columns(query))]
    keys = [f"k{i}" for i in range(len(named))]
    selected = ", ".join([*named, "customer AS who", f"{windows.start_at(TIME_US)} AS time_us"])
    order = f", max({order_of(TIME_US, 'position')}) AS last" if latest else ""
    return Source(
        relation=f"(SELECT {selected}, {figure.of_readings_scaled(inner, weighed=weighed)} AS value{order} "
        f"FROM {asked.readings} WHERE {where} GROUP BY {', '.join([*keys, 'who', 'time_us'])} "
        f"HAVING {'sum(sign)' if weighed else 'count()'} > 0)",
        where="1",
        groups=tuple(keys),
        time_us="time_us",
        figure=figure.of_figures(query.meter.aggregation, order="last"),
    )
