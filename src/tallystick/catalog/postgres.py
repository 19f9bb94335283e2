"""Connections to PostgreSQL that never wait for ever: not for a server that is frozen, cut off, or holds a lock."""

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import PQGen

    from tallystick.catalog.database import Limits

_ANSWER_MARGIN_S = 2
"""What the server is given beyond its own time-out to say so."""

T = TypeVar("T")


class PatientConnection(psycopg.Connection[Any]):
    """Gives up, and closes itself, when an answer takes longer than `answer_s_max`. The server's own time-outs do not
    help against a server that does not run, and a socket's do not while the kernel behind it still acknowledges."""

    answer_s_max: float | None = 30.0

    def wait(self, gen: "PQGen[T]", interval: float = 0.1, timeout: float | None = None) -> T:
        limit_s = self.answer_s_max if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit_s)
        except psycopg.errors._WaitTimeout as error:  # pyright: ignore[reportPrivateUsage]
            if timeout is not None:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError(f"There was no answer within {limit_s} s.") from error


def options(limits: "Limits") -> dict[str, Any]:
    """Arguments of a connection that keeps these limits."""
    statement_ms = limits.statement_s_max * 1000
    return {
        "connect_timeout": max(2, limits.connect_s_max),
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": statement_ms,
        "application_name": "tallystick",
        "options": f"-c statement_timeout={statement_ms} -c lock_timeout={max(1, statement_ms // 2)} "
        f"-c idle_in_transaction_session_timeout={limits.idle_s_max * 1000}",
        "answer_s_max": limits.statement_s_max + _ANSWER_MARGIN_S,
    }


def connect(
    _dialect: object, _record: object, arguments: Any, parameters: dict[str, Any]
) -> PatientConnection:
    """SQLAlchemy's `do_connect`, with the parameters of `options`."""
    answer_s_max = parameters.pop("answer_s_max", None)
    made = PatientConnection.connect(*arguments, **parameters)
    made.answer_s_max = answer_s_max
    return made
