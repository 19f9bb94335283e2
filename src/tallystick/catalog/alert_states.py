"""What becomes of alerts: states that are moved by compare-and-set, and transitions that are only added. A step of the keeper
is one transaction, in which channels are told, too: what is written has been enqueued, and what is not has not."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, true, tuple_, update
from sqlalchemy.exc import IntegrityError

from tallystick.catalog import alert_tables, credit_tables, tables
from tallystick.catalog.alerting import (
    Advance,
    AlertsMovedError,
    KeptAlert,
    KeptState,
    Move,
    NewTransition,
    Progress,
    StatePlace,
    Transition,
    TransitionSearch,
)
from tallystick.catalog.alerts import alert_of
from tallystick.catalog.cursor import checked_limit, cursor_of, number_of
from tallystick.catalog.database import Database, among, from_json, to_json
from tallystick.catalog.delivering import Notice
from tallystick.catalog.interface import Page
from tallystick.catalog.notices import enqueue_all
from tallystick.metering.instant import instant_text

_states = alert_tables.alert_states
_moved = alert_tables.alert_transitions
_alerts = alert_tables.alerts
_progress = alert_tables.alert_progress
_AT_ONCE = 200
_EVERYTHING = TransitionSearch()
_PLACE = (
    _states.c.alert,
    _states.c.edition,
    _states.c.window_start_us,
    _states.c.customer,
    _states.c.scope,
)


class AlertStates:
    """The part of the catalog that keeps states and transitions."""

    _database: Database

    # -- readers ------------------------------------------------------------------------------------------------
    def alert_states(
        self,
        alert: KeptAlert,
        *,
        firing: bool | None = None,
        customer: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[KeptState]:
        column = _states.c
        query = select(_states).where(column.alert == alert.id, column.edition == alert.edition)
        if firing is not None:
            fires = and_(column.level > 0, column.closed.is_(False))
            query = query.where(fires if firing else ~fires)
        if customer is not None:
            query = query.where(column.customer == customer)
        before = number_of(cursor, "alert_states")
        if before is not None:
            query = query.where(column.number < before)
        with self._database.reading() as connection:
            found = connection.execute(
                query.order_by(column.number.desc()).limit(checked_limit(limit) + 1)
            ).all()
        more = len(found) > limit
        return Page(
            tuple(map(_state, found[:limit])),
            cursor_of("alert_states", found[limit - 1].number) if more else None,
        )

    def transitions(
        self,
        tenant: str,
        search: TransitionSearch = _EVERYTHING,
        *,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Transition]:
        column = _moved.c
        query = select(_moved).where(column.tenant == tenant).order_by(column.number.desc())
        before = number_of(cursor, "transitions")
        if before is not None:
            query = query.where(column.number < before)
        for one, wanted in (
            (column.alert, search.alert),
            (column.customer, search.customer),
            (column.kind, search.kind),
            (column.owner, search.owner),
        ):
            if wanted is not None:
                query = query.where(one == wanted)
        if search.from_us is not None:
            query = query.where(column.at_us >= search.from_us)
        if search.to_us is not None:
            query = query.where(column.at_us < search.to_us)
        with self._database.reading() as connection:
            if search.customers is not None:
                query = query.where(among(connection, column.customer, search.customers))
            found = connection.execute(query.limit(checked_limit(limit) + 1)).all()
        more = len(found) > limit
        return Page(
            tuple(map(_transition, found[:limit])),
            cursor_of("transitions", found[limit - 1].number) if more else None,
        )

    def transitions_after(self, tenant: str, number: int | None, *, limit: int) -> tuple[Transition, ...]:
        column = _moved.c
        query = select(_moved).where(column.tenant == tenant)
        if number is None:
            query = query.order_by(column.number.desc()).limit(1)
        else:
            query = query.where(column.number > number).order_by(column.number).limit(limit)
        with self._database.reading() as connection:
            return tuple(map(_transition, connection.execute(query)))

    # -- the keeper ---------------------------------------------------------------------------------------------
    def every_alert(self) -> tuple[KeptAlert, ...]:
        tenants = tables.tenants
        query = (
            select(_alerts)
            .join(tenants, tenants.c.key == _alerts.c.tenant)
            .where(tenants.c.deleted_at_us.is_(None))
            .order_by(_alerts.c.number)
        )
        with self._database.reading() as connection:
            return tuple(map(alert_of, connection.execute(query)))

    def alert_progress(self) -> Progress:
        with self._database.reading() as connection:
            row = connection.execute(select(_progress)).one_or_none()
        return Progress(None, 0) if row is None else Progress(row.moment_us, row.version)

    def states_at(self, places: Collection[StatePlace]) -> dict[StatePlace, KeptState]:
        made: dict[StatePlace, KeptState] = {}
        with self._database.reading() as connection:
            for part in _parts(sorted(places)):
                wanted = [
                    (one.alert, one.edition, one.window_start_us, one.customer, one.scope) for one in part
                ]
                for row in connection.execute(select(_states).where(tuple_(*_PLACE).in_(wanted))):
                    state = _state(row)
                    made[state.place] = state
        return made

    def open_states(self, alerts: Collection[str]) -> tuple[KeptState, ...]:
        column = _states.c
        return self._states_of(alerts, and_(column.closed.is_(False), column.level > 0))

    def fired_states(self, alerts: Collection[str], window_start_us: int) -> tuple[KeptState, ...]:
        column = _states.c
        return self._states_of(alerts, and_(column.window_start_us == window_start_us, column.level > 0))

    def unsaid_states(self, alerts: Collection[str]) -> tuple[KeptState, ...]:
        column = _states.c
        said, open_ = column.said_level, column.closed.is_(False)
        differs = or_(and_(open_, said != column.level), and_(~open_, said > 0))
        return self._states_of(alerts, differs)

    def _states_of(self, alerts: Collection[str], condition: Any) -> tuple[KeptState, ...]:
        made: list[KeptState] = []
        query = select(_states).join(
            _alerts, and_(_alerts.c.id == _states.c.alert, _alerts.c.edition == _states.c.edition)
        )
        with self._database.reading() as connection:
            for part in _parts(sorted(alerts)):
                found = connection.execute(query.where(_states.c.alert.in_(part), condition))
                made += map(_state, found)
        return tuple(made)

    def tracked_states(self, alerts: Collection[str]) -> tuple[KeptState, ...]:
        return self._states_of(alerts, true())

    def customer_zones(self, tenant: str, customers: Collection[str]) -> dict[str, str]:
        column = tables.customers.c
        query = select(column.key, column.timezone).where(column.tenant == tenant)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(among(connection, column.key, customers)))
            return {key: timezone for key, timezone in rows}  # noqa: C416 - a Row is no tuple of two

    def customers_with_grants(self, tenant: str) -> tuple[str, ...]:
        column = credit_tables.credit_grants.c
        query = select(column.customer).where(column.tenant == tenant, column.ended.is_(False)).distinct()
        with self._database.reading() as connection:
            return tuple(connection.execute(query).scalars())

    def latest_transition(self, place: StatePlace) -> Transition | None:
        column = _moved.c
        query = (
            select(_moved)
            .where(
                column.alert_id == place.alert,
                column.window_start_us == place.window_start_us,
                column.customer == place.customer,
                column.scope == place.scope,
            )
            .order_by(column.number.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _transition(row)

    def advance_alerts(self, version: int, advance: Advance, *, now_us: int) -> int:
        with self._database.writing() as connection:
            _take_version(connection, version, advance.moment_us)
            names = {move.state.place.alert for move in advance.moves}
            names |= {name for name, _ in (*advance.begun, *advance.judged)}
            alerts = _alerts_by_id(connection, names)
            notices: list[Notice] = []
            states: list[dict[str, Any]] = []
            moved: list[dict[str, Any]] = []
            try:
                for move in advance.moves:
                    alert = alerts.get(move.state.place.alert)
                    if alert is not None and alert.edition == move.state.place.edition:
                        states += _moved_state(connection, alert, move, now_us)
                        moved += _transitions(alert, move, now_us)
                        if not _muted(alert, now_us):
                            notices += [
                                made
                                for one in move.transitions
                                for made in _notices(alert, move.state.place.customer, one)
                            ]
                for table, rows in ((_states, states), (_moved, moved)):
                    if rows:
                        connection.execute(insert(table), rows)
            except IntegrityError as error:
                raise AlertsMovedError("A state has been moved by somebody else.") from error
            if notices:
                enqueue_all(connection, notices, now_us=now_us)
            column = _alerts.c
            for name, edition in advance.begun:
                connection.execute(
                    update(_alerts)
                    .where(column.id == name, column.edition == edition)
                    .values(begun_edition=edition)
                )
            for name, judged_us in advance.judged:
                connection.execute(update(_alerts).where(column.id == name).values(judged_us=judged_us))
        return version + 1

    def say_again(self, version: int, states: Collection[KeptState], *, now_us: int) -> int:
        lasts = {state.place: self.latest_transition(state.place) for state in states}
        with self._database.writing() as connection:
            _take_version(connection, version, None)
            alerts = _alerts_by_id(connection, {state.place.alert for state in states})
            for state in states:
                alert, last = alerts.get(state.place.alert), lasts[state.place]
                if alert is None or alert.edition != state.place.edition or _muted(alert, now_us):
                    continue
                if last is not None:
                    content = dict(last.content)
                    summary = str(content.get("summary", ""))
                    told = NewTransition(last.id, last.kind, 0, last.at_us, summary, content)
                    enqueue_all(connection, _notices(alert, state.place.customer, told), now_us=now_us)
                said = 0 if state.closed else state.level
                values = {"said_level": said, "version": state.version + 1}
                _set(connection, state, values)
        return version + 1


def _take_version(connection: Connection, version: int, moment_us: int | None) -> None:
    """Whoever still has the newest version goes on."""
    if version == 0:
        try:
            connection.execute(insert(_progress), {"one": 1, "moment_us": moment_us or 0, "version": 1})
        except IntegrityError as error:
            raise AlertsMovedError("Another keeper has begun.") from error
        return
    values: dict[str, Any] = {"version": version + 1}
    if moment_us is not None:
        values["moment_us"] = moment_us
    changed = connection.execute(update(_progress).where(_progress.c.version == version).values(**values))
    if changed.rowcount != 1:
        raise AlertsMovedError("Another keeper is at work.")


def _alerts_by_id(connection: Connection, names: Collection[str]) -> dict[str, KeptAlert]:
    made: dict[str, KeptAlert] = {}
    for part in _parts(sorted(names)):
        for row in connection.execute(select(_alerts).where(_alerts.c.id.in_(part))):
            made[row.id] = alert_of(row)
    return made


def _muted(alert: KeptAlert, now_us: int) -> bool:
    return alert.muted_until_us is not None and alert.muted_until_us > now_us


def _moved_state(connection: Connection, alert: KeptAlert, move: Move, now_us: int) -> list[dict[str, Any]]:
    """The state's row where it is new; otherwise it is moved at once."""
    state = move.state
    said = state.said_level if _muted(alert, now_us) else 0 if state.closed else state.level
    values = {
        "window_end_us": state.window_end_us,
        "level": state.level,
        "said_level": said if move.transitions else state.said_level,
        "sequence": state.sequence,
        "closed": state.closed,
        "value": state.value,
        "since_us": state.since_us,
        "changed_at_us": now_us,
        "version": state.version + 1,
    }
    if state.version:
        _set(connection, state, values)
        return []
    place = state.place
    row = {
        "alert": place.alert,
        "edition": place.edition,
        "window_start_us": place.window_start_us,
        "customer": place.customer,
        "scope": place.scope,
    }
    return [{**row, **values}]


def _transitions(alert: KeptAlert, move: Move, now_us: int) -> list[dict[str, Any]]:
    """Their rows."""
    state, muted = move.state, _muted(alert, now_us)
    made: list[dict[str, Any]] = []
    for one in move.transitions:
        row = {
            "id": one.id,
            "tenant": alert.tenant,
            "owner": alert.owner or "",
            "alert": alert.key,
            "alert_id": alert.id,
            "customer": state.place.customer,
            "scope": state.place.scope,
            "window_start_us": state.place.window_start_us,
            "kind": one.kind,
            "step": one.step,
            "at_us": one.at_us,
            "muted": muted,
            "content": to_json({**one.content, "summary": one.summary}),
        }
        made.append(row)
    return made


def _set(connection: Connection, state: KeptState, values: dict[str, Any]) -> None:
    place = state.place
    changed = connection.execute(
        update(_states)
        .where(
            _states.c.alert == place.alert,
            _states.c.edition == place.edition,
            _states.c.window_start_us == place.window_start_us,
            _states.c.customer == place.customer,
            _states.c.scope == place.scope,
            _states.c.version == state.version,
        )
        .values(**values)
    )
    if changed.rowcount != 1:
        raise AlertsMovedError("A state has been moved by somebody else.")


def _notices(alert: KeptAlert, customer: str, one: NewTransition) -> list[Notice]:
    """For the channels the alert names, and for those that subscribe to what happens."""
    rule = from_json(alert.content)
    data = {"id": one.id, "kind": one.kind, "alert": alert.key, "owner": alert.owner, **one.content}
    about = customer or None
    own = alert.owner is not None

    def notice(channels: Sequence[str], whom: str | None, *, only_named: bool) -> Notice:
        return Notice(
            tenant=alert.tenant,
            id=one.id,
            kind=f"alert.{one.kind}",
            summary=one.summary,
            data={**data, "at": instant_text(one.at_us)},
            at_us=one.at_us,
            customer=whom,
            channels=tuple(channels),
            only_named=only_named,
        )

    # What the tenant watches is no customer's news unless the alert itself names the customer's channel.
    named = notice(rule["channels"], about, only_named=not own)
    return [named] if own else [named, notice((), None, only_named=False)]


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


def _state(row: Row[Any]) -> KeptState:
    return KeptState(
        place=StatePlace(row.alert, row.edition, row.window_start_us, row.customer, row.scope),
        window_end_us=row.window_end_us,
        level=row.level,
        said_level=row.said_level,
        sequence=row.sequence,
        closed=row.closed,
        value=row.value,
        since_us=row.since_us,
        changed_at_us=row.changed_at_us,
        version=row.version,
    )


def _transition(row: Row[Any]) -> Transition:
    return Transition(
        number=row.number,
        id=row.id,
        tenant=row.tenant,
        owner=row.owner or None,
        alert=row.alert,
        customer=row.customer,
        kind=row.kind,
        at_us=row.at_us,
        muted=row.muted,
        content=from_json(row.content),
    )
