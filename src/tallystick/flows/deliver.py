"""Sends what is enqueued: takes due deliveries, sends each, writes down what came of it.

At least once, always under the same id: whoever crashes between sending and writing leaves a delivery that is taken again
when its time as taken is over. An endpoint that hangs holds its own places and nobody else's; one whose last attempt
failed has a single place until it answers again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import structlog

from tallystick.catalog.delivering import Attempt, Channel, Delivery, DeliveryCatalog, Finished, Verdict
from tallystick.catalog.reporting import REPORT_KIND, ReportFile
from tallystick.clock import Clock
from tallystick.delivery.email import EmailSender, EmailTarget
from tallystick.delivery.interface import Attachment, Message, Sent
from tallystick.delivery.sealed import Seal
from tallystick.delivery.slack import SlackSender, SlackTarget
from tallystick.delivery.webhook import WebhookSender, WebhookTarget
from tallystick.errors import TallystickError
from tallystick.flows.lease import Held
from tallystick.metrics import Metrics

RETRY_S = (5, 30, 300, 1800, 7200, 18_000, 36_000, 86_400, 86_400, 86_400)
"""How long after a failed attempt the next is made, before jitter: some four and a half days in all."""
JITTER = 0.2
PLACES_PER_CHANNEL = 16
PLACES = 512
LOOK_S = 1.0
"""How often is looked for what other processes have enqueued."""
TROUBLED_MAX = 10_000
KEEP_SWEEP_S = 3600.0
BACKLOG_S = 15.0
WRITE_TRIES = 5
_US = 1_000_000

_logger = structlog.get_logger("delivery")


@dataclass(frozen=True, slots=True)
class Senders:
    """One for each kind of channel."""

    webhook: WebhookSender
    email: EmailSender
    slack: SlackSender
    time_s_max: float
    """Of one attempt."""


class Deliverer:
    """`run` is its life. `jitter` answers 0 to 1."""

    def __init__(
        self,
        catalog: DeliveryCatalog,
        senders: Senders,
        seal: Seal,
        *,
        clock: Clock,
        metrics: Metrics,
        retry_s: Sequence[int] = RETRY_S,
        keep_days: int = 30,
        jitter: Callable[[], float] = random.random,
        look_s: float = LOOK_S,
        file_of: Callable[[str, str], ReportFile | None] | None = None,
    ) -> None:
        """`file_of` answers the file of a tenant's run of a report; None: reports are sent without."""
        self._catalog = catalog
        self._senders = senders
        self._seal = seal
        self._clock = clock
        self._metrics = metrics
        self._retry_s = tuple(retry_s)
        self._keep_days = keep_days
        self._jitter = jitter
        self._look_s = look_s
        self._file_of = file_of
        self._taken_s = 2 * senders.time_s_max + 5
        self._busy: Counter[int] = Counter()
        self._troubled: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: list[tuple[Finished, asyncio.Future[None]]] = []
        self._sending: dict[int, Delivery] = {}
        self._writing: asyncio.Task[None] | None = None
        self._stopping = False
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._swept_s = self._counted_s = float("-inf")

    def wake(self) -> None:
        """Something was enqueued. From any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        """Send until `stop`. What fails here is logged and tried again; nobody else notices."""
        self._loop = asyncio.get_running_loop()
        while not self._stopping:
            self._woken.clear()
            wait_s = self._look_s
            try:
                wait_s = min(wait_s, await self.look())
            except Exception as error:
                _logger.warning("deliveries_not_taken", error=repr(error))
            try:
                await asyncio.wait_for(self._woken.wait(), wait_s)
            except TimeoutError:
                continue
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._give_back()

    async def stop(self) -> None:
        """What is being sent is broken off, and sent again by whoever comes next, at once."""
        self._stopping = True
        self._woken.set()

    async def work(self, held: Held[str]) -> None:
        """In a cluster: while this process has the job."""
        self._stopping = False
        running = asyncio.create_task(self.run())
        try:
            await held.leaving.wait()
        finally:
            await self.stop()
            await running

    async def settle(self) -> None:
        """Wait until nothing is being sent (tests)."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def look(self) -> float:
        """Begin to send what is due; seconds until there may be more to do."""
        await self._tend()
        free = PLACES - len(self._tasks)
        if free <= 0:
            return self._look_s  # woken by the first that ends
        now_us = self._clock.now_us()
        busy = dict(self._busy)
        taken = await asyncio.to_thread(
            self._catalog.take_deliveries,
            busy,
            self._places_of,
            until_us=now_us + round(self._taken_s * _US),
            limit=free,
            now_us=now_us,
        )
        for delivery, channel in taken.items:
            self._busy[channel.number] += 1
            self._sending[delivery.number] = delivery
            task = asyncio.create_task(self._attempt(delivery, channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if taken.next_due_us is None:
            return self._look_s
        return max(0.01, (taken.next_due_us - now_us) / _US)

    def _places_of(self, channel: Channel) -> int:
        return 1 if channel.setup.ordered or channel.number in self._troubled else PLACES_PER_CHANNEL

    async def _attempt(self, delivery: Delivery, channel: Channel) -> None:
        try:
            at_us, started = self._clock.now_us(), perf_counter()
            sent = await self._send(delivery, channel, at_us)
            self._sending.pop(delivery.number, None)
            seconds = perf_counter() - started
            if sent.error is None:
                self._troubled.discard(channel.number)
            elif len(self._troubled) < TROUBLED_MAX:
                self._troubled.add(channel.number)
            verdict = self.verdict(delivery, sent, self._clock.now_us())
            outcome = "retry" if verdict.status == "pending" else verdict.status
            self._metrics.observe_delivery(channel.setup.type, outcome, seconds)
            await self._write(Finished(delivery, _attempt_of(delivery, sent, at_us, seconds), verdict))
        except Exception as error:
            _logger.warning("delivery_not_written", delivery=delivery.id, error=repr(error))
        finally:
            self._busy[channel.number] -= 1
            if self._busy[channel.number] <= 0:
                del self._busy[channel.number]
            self._woken.set()

    async def _send(self, delivery: Delivery, channel: Channel, at_us: int) -> Sent:
        message = Message(
            id=delivery.id,
            kind=delivery.kind,
            summary=delivery.summary,
            body=delivery.body.encode(),
            at_s=at_us // _US,
        )
        setup = channel.setup
        try:
            if setup.type == "email":
                if delivery.kind == REPORT_KIND and self._file_of is not None:
                    file = await asyncio.to_thread(self._file_of, delivery.tenant, delivery.notice)
                    if file is None:
                        detail = "The file of this run is not kept any more. Send the report again."
                        return Sent("mailto:", error="report_file_gone", detail=detail, is_final=True)
                    attachment = Attachment(file.name, file.media_type, file.content)
                    message = replace(message, attachment=attachment)
                return await self._senders.email.send(message, EmailTarget(setup.to))
            if setup.type == "slack":
                return await self._senders.slack.send(message, SlackTarget(setup.url or ""))
            keys = tuple(self._seal.open(kept) for kept in _secrets(channel, at_us))
            return await self._senders.webhook.send(message, WebhookTarget(setup.url or "", keys))
        except TallystickError as error:
            return Sent(setup.type, error=error.code, detail=error.detail)
        except Exception:
            _logger.exception("delivery_failed", delivery=delivery.id)
            return Sent(setup.type, error="internal", detail="An unexpected error; the server's log has it.")

    def verdict(self, delivery: Delivery, sent: Sent, now_us: int) -> Verdict:
        """What an attempt means for its delivery."""
        if sent.error is None:
            return Verdict("delivered")
        if sent.is_gone:
            return Verdict("dead", disable="gone")
        if sent.is_final or delivery.retries >= len(self._retry_s):
            return Verdict("dead")
        wait_s = self._retry_s[delivery.retries] * (1 + JITTER * self._jitter())
        wait_s = max(wait_s, sent.retry_after_s or 0)
        return Verdict("pending", due_at_us=now_us + round(wait_s * _US))

    async def _write(self, finished: Finished) -> None:
        for left in reversed(range(WRITE_TRIES)):
            written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._finished.append((finished, written))
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write_all())
            try:
                await written
            except TallystickError:
                if not left:
                    raise  # it will be sent again, under the same id
                await asyncio.sleep(self._look_s)
            else:
                return

    async def _write_all(self) -> None:
        """What ends while others are written is written with the next: a sync of the disk serves many."""
        while self._finished:
            taken, self._finished = self._finished, []
            finished = [one for one, _ in taken]
            error: Exception | None = None
            try:
                await asyncio.to_thread(
                    self._catalog.finish_deliveries, finished, now_us=self._clock.now_us()
                )
            except Exception as raised:
                error = raised
            for _, written in taken:
                if not written.done():
                    written.set_result(None) if error is None else written.set_exception(error)

    async def _give_back(self) -> None:
        """What was broken off is due now: nobody needs to wait until this process's time with it is over."""
        broken_off = tuple(self._sending.values())
        self._sending.clear()
        if not broken_off:
            return
        try:
            await asyncio.to_thread(
                self._catalog.give_back_deliveries, broken_off, now_us=self._clock.now_us()
            )
        except TallystickError as error:
            _logger.warning("deliveries_not_given_back", error=repr(error))

    async def _tend(self) -> None:
        """Forget what was finished long ago; count what waits."""
        now_s = perf_counter()
        if now_s - self._swept_s > KEEP_SWEEP_S and self._keep_days:
            self._swept_s = now_s
            before_us = self._clock.now_us() - self._keep_days * 86_400 * _US
            while await asyncio.to_thread(self._catalog.forget_deliveries, before_us) and not self._stopping:
                await asyncio.sleep(0)
        if now_s - self._counted_s > BACKLOG_S:
            self._counted_s = now_s
            self._metrics.deliveries_waiting.set(await asyncio.to_thread(self._catalog.delivery_backlog))


def _secrets(channel: Channel, now_us: int) -> tuple[str, ...]:
    """The sealed secrets to sign with now, the newest first."""
    found = () if channel.secret is None else (channel.secret,)
    if channel.previous_secret is not None and now_us < (channel.previous_until_us or 0):
        found = (*found, channel.previous_secret)
    return found


def _attempt_of(delivery: Delivery, sent: Sent, at_us: int, seconds: float) -> Attempt:
    return Attempt(
        attempt=delivery.attempts,
        at_us=at_us,
        duration_us=round(seconds * _US),
        target=sent.target,
        request_headers=sent.request_headers,
        status=sent.status,
        answer_headers=sent.answer_headers,
        answer=sent.answer,
        error=sent.error,
        detail=sent.detail,
    )


def retry_schedule(text: str) -> tuple[int, ...]:
    """Of the setting: seconds with commas between. Raises ValueError."""
    made = tuple(int(part) for part in text.replace(" ", "").split(",") if part)
    if len(made) > 50 or any(not 0 <= wait_s <= 30 * 86_400 for wait_s in made):
        raise ValueError("at most 50 waits of 0 s to 30 days each")
    return made
