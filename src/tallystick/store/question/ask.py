"""A usage question as SQL: its groups over the whole range, and its groups in each window."""

# ruff: noqa: S608 (identifiers come from fixed lists, values are bound)

from collections.abc import Sequence

from tallystick.metering.meter import Aggregation
from tallystick.metering.query import UsageQuery
from tallystick.store.question.borders import Borders
from tallystick.store.question.bound import Bound, Statement
from tallystick.store.question.inner import of_figures
from tallystick.store.question.pairs import of_pairs
from tallystick.store.question.rollups import of_rollups
from tallystick.store.question.series import of_register, of_time_weighted
from tallystick.store.question.source import Asked, Source, Spans, nullable_groups, of_readings

Group = tuple[str | None, ...]

_NAMED_GROUPS_MAX = 100
"""Groups that are named in a statement; a limit of more is looked for by the statement itself."""


def totals(asked: Asked, *, rows_max: int) -> Statement:
    """(figure, g0, g1, …) over the whole range, in the order the question wants its groups, at most its limit."""
    bound = Bound()
    return Statement(ranking(asked, bound, rows_max), bound.parameters)


def windows(asked: Asked, *, rows_max: int, ranked: Sequence[Group] | None = None) -> Statement:
    """(figure, window, g0, g1, …) in no stated order; for window see `window_indexes`. `ranked`: the groups that `totals`
    has found, where it was asked before: they need not be found again."""
    bound = Bound()
    figures = window_figures(asked, bound, rows_max, ranked)
    return Statement(f"{figures} LIMIT {rows_max + 1:d}", bound.parameters)


def window_figures(asked: Asked, bound: Bound, rows_max: int, ranked: Sequence[Group] | None = None) -> str:
    """The same as `windows`, of any number of rows."""
    query = asked.query
    source = _source(asked, bound, query.edges_us)
    kept = ""
    if query.limit is not None and source.groups and (ranked is None or len(ranked) >= query.limit):
        if ranked is None or len(ranked) > _NAMED_GROUPS_MAX:
            best = f"SELECT {same_group(query)} FROM ({ranking(asked, bound, rows_max)})"
        else:
            best = f"SELECT arrayJoin({_named(ranked, bound)})"
        kept = f" AND {_encoded(source.groups, nullable_groups(query))} IN ({best})"
    if isinstance(source, Spans):
        return _spread(source, query, bound, kept)
    window = Borders.key(query.edges_us, source.time_us, bound)
    return (
        f"SELECT {source.figure} AS figure, {window} AS w{_selected(source.groups)} "
        f"FROM {source.relation} WHERE {source.where}{kept} "
        f"GROUP BY {', '.join(['w', *group_keys(query)])} HAVING {source.rows} > 0"
    )


def window_indexes(query: UsageQuery) -> dict[int, int] | None:
    """From what `windows` answers for a window to its index; None: it is the index."""
    if query.meter.aggregation in {Aggregation.TIME_WEIGHTED, Aggregation.DURATION}:
        return None
    return Borders.indexes(query.edges_us)


def _source(asked: Asked, bound: Bound, edges_us: tuple[int, ...]) -> Source | Spans:
    meter = asked.query.meter
    if asked.rolled_up is not None:
        return of_rollups(asked, bound, rolled_up=asked.rolled_up)
    if meter.of is not None:
        return of_figures(asked, bound, outer_edges_us=edges_us)
    match meter.aggregation:
        case Aggregation.TIME_WEIGHTED:
            return of_time_weighted(asked, bound)
        case Aggregation.DURATION:
            return of_pairs(asked, bound)
        case Aggregation.REGISTER:
            return of_register(asked, bound)
        case _:
            return of_readings(asked, bound)


def ranking(asked: Asked, bound: Bound, rows_max: int) -> str:
    """See `totals`."""
    query = asked.query
    source = _source(asked, bound, (query.from_us, query.to_us))
    if isinstance(source, Spans):
        source = Source(
            relation=source.relation,
            where="1",
            groups=source.groups,
            time_us="a_us",
            figure=source.figure("sum(level * (b_us - a_us))"),
        )
    keys = group_keys(query)
    order = [f"{key} ASC NULLS FIRST" for key in keys]
    if query.descending is not None:
        order.insert(0, f"figure {'DESC' if query.descending else 'ASC'}")
    limit = rows_max + 1 if query.limit is None else min(query.limit, rows_max + 1)
    grouped = f"GROUP BY {', '.join(keys)} " if keys else ""
    ordered = f"ORDER BY {', '.join(order)} " if order else ""
    return (
        f"SELECT {source.figure} AS figure{_selected(source.groups)} FROM {source.relation} "
        f"WHERE {source.where} {grouped}HAVING {source.rows} > 0 {ordered}LIMIT {limit:d}"
    )


def _spread(spans: Spans, query: UsageQuery, bound: Bound, kept: str) -> str:
    """Spans over windows.

    A span lies in part in its first and last window, and all through those between. These it only enters and leaves: it
    changes the level that holds in all windows from one on. So the cost goes with the spans and with the rows of
    the answer, not with the windows each span covers.
    """
    borders = Borders(query.edges_us, bound)
    keys = group_keys(query)
    placed = (
        f"SELECT level, a_us, b_us, {borders.index('a_us')} AS first,"
        f" {borders.index('greatest(a_us, b_us - 1)')} AS last{_selected(spans.groups)}"
        f" FROM {spans.relation} WHERE 1{kept}"
    )
    # Pieces: 0 in the first window, 1 in the last, 2 entering those between, 3 leaving them.
    pieces = "multiIf(first = last, [0], first + 1 = last, [0, 1], [0, 1, 2, 3])"
    at = "multiIf(piece = 0, first, piece = 2, first + 1, last)"
    length_us = (
        f"multiIf(piece = 0, least(b_us, {borders.end_of('first')}) - a_us,"
        f" piece = 1, b_us - {borders.start_of('last')}, 0)"
    )
    turn = "multiIf(piece = 2, 1, piece = 3, -1, 0)"
    summed = (
        f"SELECT {at} AS at, sum(level * {length_us}) AS partly, sum(level * {turn}) AS change, sum({turn}) AS entered,"
        f" countIf(piece < 2) AS parts{_listed(keys)} FROM ({placed}) ARRAY JOIN {pieces} AS piece"
        f" GROUP BY {', '.join(['at', *keys])}"
    )
    partition = f"PARTITION BY {', '.join(keys)} " if keys else ""
    course = f"({partition}ORDER BY at"
    running = (
        f"SELECT at, partly, parts, sum(change) OVER {course} ROWS UNBOUNDED PRECEDING) AS held,"
        f" sum(entered) OVER {course} ROWS UNBOUNDED PRECEDING) AS holding,"
        f" leadInFrame(at, 1, at + 1) OVER {course} ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS next"
        f"{_listed(keys)} FROM ({summed})"
    )
    area = f"if(w = at, partly, 0) + held * ({borders.end_of('w')} - {borders.start_of('w')})"
    return (
        f"SELECT {spans.figure(f'({area})')} AS figure, w{_listed(keys)} FROM ({running}) "
        f"ARRAY JOIN if(holding > 0, range(at, next), [at]) AS w WHERE parts > 0 OR holding > 0"
    )


def group_keys(query: UsageQuery) -> list[str]:
    """The columns of a group in what is answered."""
    return [f"g{i}" for i in range(len(query.group_by))]


def same_group(query: UsageQuery) -> str:
    """The columns of a group as one value, equal for equal groups, a missing dimension being one."""
    return _encoded(group_keys(query), nullable_groups(query))


def _selected(groups: Sequence[str]) -> str:
    return "".join(f", {column} AS g{i}" for i, column in enumerate(groups))


def _listed(keys: Sequence[str]) -> str:
    return "".join(f", {key}" for key in keys)


def _named(groups: Sequence[Group], bound: Bound) -> str:
    """An array of groups, each as `_encoded` writes it."""
    columns: list[str] = []
    for values in zip(*groups, strict=True):
        missing = bound.value([int(value is None) for value in values], "Array(UInt8)")
        columns.append(f"arrayZip({missing}, {bound.texts([value or '' for value in values])})")
    return f"arrayZip({', '.join(columns)})" if len(columns) > 1 else columns[0]


def _encoded(names: Sequence[str], nullable: Sequence[bool]) -> str:
    """Groups as values that can be looked up: IN knows no missing value."""
    parts = [
        f"(isNull({name}), ifNull({name}, ''))" if missing else f"(0, {name})"
        for name, missing in zip(names, nullable, strict=True)
    ]
    return f"({', '.join(parts)})" if len(parts) > 1 else parts[0]
