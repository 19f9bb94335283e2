"""Where the parts of meters come from that alerts look at: one answer a meter, window and look, however many alerts there
are; and what was recorded since, by the columns that any of them looks at."""

from collections.abc import Collection, Iterable, Sequence

from tallystick.billing.period import Period
from tallystick.flows.alerts.figures import Scopes, every_figure, figures, parted
from tallystick.flows.alerts.parts import ByValues, Cut, by_values, columns_for, names_of
from tallystick.flows.alerts.tick import Tick
from tallystick.flows.alerts.watched import Watch, Watched
from tallystick.flows.fresh import Columns, Part


class Shared:
    """What cannot be put together from parts is asked for by itself."""

    def __init__(self) -> None:
        self._cuts: dict[Watch, Cut] = {}
        self._answers: dict[tuple[int, Period], tuple[frozenset[str] | None, ByValues | None]] = {}
        """Of this look: of whom it was asked, and the answer; None: it has no room for that."""

    def arm(self, groups: Iterable[Sequence[Watched]]) -> None:
        """These questions there are, by meter. What adds up as a whole is followed as a whole."""
        before, self._cuts = self._cuts, {}
        for group in groups:
            parts = [
                one.watch for one in group if not one.adds_up and names_of(one.watch.measured) is not None
            ]
            columns = columns_for(watch.measured for watch in parts)
            if columns is not None:
                for watch in parts:
                    known = before.get(watch)
                    kept = known is not None and known.columns == columns
                    self._cuts[watch] = known if known is not None and kept else Cut(watch.measured, columns)

    @property
    def splits(self) -> frozenset[tuple[int, Columns]]:
        """Which meters are to be followed by which columns of readings."""
        return frozenset((watch.measured.meter.id, _slots(cut)) for watch, cut in self._cuts.items())

    def begin(self) -> None:
        """Another look: what was answered is old."""
        self._answers = {}

    def taken(self, tick: Tick, watched: Watched) -> list[tuple[Part, str]] | None:
        """What was recorded of a part, by group; None: that is not in memory."""
        cut, parts = self._cuts.get(watched.watch), tick.parts.get(watched.watch.measured.meter.id)
        if cut is None or parts is None:
            return None
        names = watched.names
        return [
            (part, scope)
            for part in parts
            if (names is None or part.customer in names) and (scope := cut.scope(part.values)) is not None
        ]

    async def figures(
        self, tick: Tick, watch: Watch, period: Period, customers: Collection[str]
    ) -> dict[str, Scopes]:
        """Of these customers."""
        found = await self._answered(tick, watch, period, customers)
        if found is not None:
            return found
        return await figures(
            tick.system, watch.measured, period, customers, tick.moment_us, now_us=tick.now_us
        )

    async def every_figure(self, tick: Tick, watch: Watch, period: Period) -> dict[str, Scopes] | None:
        """Of everybody; None: they are too many for one answer."""
        found = await self._answered(tick, watch, period, None)
        if found is not None:
            return found
        return await every_figure(tick.system, watch.measured, period, tick.moment_us, now_us=tick.now_us)

    async def _answered(
        self, tick: Tick, watch: Watch, period: Period, customers: Collection[str] | None
    ) -> dict[str, Scopes] | None:
        """Out of one answer for all parts of its meter."""
        cut = self._cuts.get(watch)
        if cut is None:
            return None
        meter = watch.measured.meter
        asked_of, rows = self._answers.get((meter.id, period), (frozenset[str](), ByValues()))
        has_all = asked_of is None or (customers is not None and asked_of.issuperset(customers))
        if rows is not None and not has_all:
            asked_of = None if customers is None or asked_of is None else asked_of.union(customers)
            answer = await parted(
                tick.system,
                meter,
                cut.columns,
                period,
                asked_of,
                as_of_us=tick.moment_us,
                now_us=tick.now_us,
            )
            rows = None if answer is None else by_values(answer)
            self._answers[meter.id, period] = asked_of, rows
        return None if rows is None else cut.of(rows, customers)


def _slots(cut: Cut) -> Columns:
    meter = cut.measured.meter
    return tuple(name if name == "subject" else f"d{meter.slot(name)}" for name in cut.columns)
