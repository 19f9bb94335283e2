"""Requests that are answered at once: usage, limits, and events whose outcome is waited for. Shared by both clients."""

import json
import threading
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from tallystick_client.answers import Check, Reservation, Usage
from tallystick_client.errors import Problem, Unreachable
from tallystick_client.options import Options
from tallystick_client.transport import RETRIED, Delays, Transport

Amount = Decimal | int | str


def amount_text(amount: Amount) -> str:
    """As the contract wants it. A float is refused: what it means is not what was written."""
    if isinstance(amount, float):
        raise TypeError("An amount is a Decimal, an int or text; a float is not exact.")
    return format(amount, "f") if isinstance(amount, Decimal) else str(amount)


class Questions:
    """Asks, and asks again where that can help."""

    def __init__(self, transport: Transport, options: Options) -> None:
        self._transport, self._options = transport, options
        self.stopping = threading.Event()

    def request(
        self,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        parameters: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Any route of the contract; the answer's document. A list in `parameters` is a repeated parameter. Raises
        Problem and Unreachable after the last attempt. What creates carries `idempotency_key` through all attempts."""
        target = path
        if parameters:
            pairs = {name: value for name, value in parameters.items() if value is not None}
            target += "?" + urlencode(pairs, doseq=True)
        body = None if json_body is None else json.dumps(json_body, allow_nan=False).encode()
        headers: dict[str, str] = {} if body is None else {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        delays = Delays(self._options.retry_s_min, self._options.retry_s_max)
        for attempt in range(1, self._options.question_attempts + 1):
            retry_after_s = None
            try:
                answer = self._transport.request(method, target, body=body, headers=headers)
                if answer.status not in RETRIED or attempt == self._options.question_attempts:
                    return answer.json()
                retry_after_s = answer.retry_after_s
            except Unreachable:
                if attempt == self._options.question_attempts:
                    raise
            if self.stopping.wait(delays.next_s(retry_after_s)):
                break
        raise Unreachable(f"{method} {path}: the client was closed.")

    def send(self, events: Iterable[Mapping[str, Any]], *, wait_recorded: bool) -> dict[str, Any]:
        """Events past the spool, each with an id; what became of each. Where none was taken the server's words are
        answered too, not raised: `results` has the reasons."""
        path = "/v1/events?wait=recorded" if wait_recorded else "/v1/events"
        try:
            return self.request("POST", path, json_body=[dict(event) for event in events])
        except Problem as problem:
            if "results" in problem.document:
                return dict(problem.document)
            raise

    def usage(self, meter: str, parameters: Mapping[str, Any]) -> Usage:
        """`POST /v1/meters/{key}/usage` with the contract's names."""
        given = {name.rstrip("_"): value for name, value in parameters.items() if value is not None}
        return Usage.of(self.request("POST", f"/v1/meters/{quote(meter, safe='')}/usage", json_body=given))

    def check(self, customer: str, meter: str, amount: Amount) -> Check:
        """May this be used? Nothing is held."""
        given = {"customer": customer, "meter": meter, "amount": amount_text(amount)}
        return Check.of(self.request("POST", "/v1/check", json_body=given))

    def reserve(self, customer: str, meter: str, amount: Amount, ttl_seconds: int) -> Reservation:
        """Hold an amount. Raises Problem `limit_exceeded` (409)."""
        given = {
            "customer": customer,
            "meter": meter,
            "amount": amount_text(amount),
            "ttl_seconds": ttl_seconds,
        }
        return Reservation.of(
            self.request("POST", "/v1/reservations", json_body=given, idempotency_key=uuid4().hex)
        )

    def settle(self, reservation: str, amount: Amount, event: Mapping[str, Any] | None) -> dict[str, Any]:
        """What was really used; the event is recorded in the same step. May be repeated with the same amount."""
        given = {"amount": amount_text(amount), "event": None if event is None else dict(event)}
        return self.request("POST", f"/v1/reservations/{quote(reservation, safe='')}/settle", json_body=given)

    def release(self, reservation: str) -> dict[str, Any]:
        """Give all of it back."""
        return self.request("POST", f"/v1/reservations/{quote(reservation, safe='')}/release", json_body={})
