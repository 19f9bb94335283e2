"""Channels as callers may have them: what makes one valid, whose it is, and its secret's life."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import msgspec

from tallystick.catalog.delivering import (
    DISABLED,
    RECIPIENTS_MAX,
    Channel,
    Delivery,
    Match,
    Notice,
    Setup,
)
from tallystick.catalog.interface import Actor
from tallystick.delivery.addresses import UnusableURL
from tallystick.delivery.email import checked_address
from tallystick.delivery.signature import checked_secret, fingerprint, new_secret, public_key
from tallystick.errors import Conflict, Fault, Invalid, NotFound, TallystickError
from tallystick.flows.customers import narrowed, visible
from tallystick.flows.feed import check_match
from tallystick.flows.outbox import Outbox, outbox_of
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

OVERLAP_S_DEFAULT = 86_400
OVERLAP_S_MAX = 30 * 86_400
TEST_WAIT_S_MAX = 10.0
TEST_KIND = "channel.test"
EVENTS_MAX = 50
_KIND_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


@dataclass(frozen=True, slots=True)
class Who:
    """A caller: whose tenant, bound to which customer (None: to none), and for the audit."""

    tenant: str
    bound: str | None
    actor: Actor


@dataclass(frozen=True, slots=True)
class Shown:
    """A channel as a caller may see it. `secret`: only where it was made just now, by us."""

    channel: Channel
    fingerprint: str | None
    public_key: str | None
    secret: str | None = field(default=None, repr=False)


async def check_setup(outbox: Outbox, setup: Setup) -> list[Fault]:
    """Everything that is wrong with a channel."""
    faults: list[Fault] = []
    if setup.type == "email":
        if not 1 <= len(setup.to) <= RECIPIENTS_MAX:
            faults.append(Fault("/to", "missing", f"to is required: 1 to {RECIPIENTS_MAX} e-mail addresses."))
        for index, address in enumerate(setup.to):
            try:
                checked_address(address)
            except ValueError as error:
                faults.append(Fault(f"/to/{index}", "invalid_email", f"to: {error}"))
    elif setup.url is None:
        faults.append(Fault("/url", "missing", "url is required."))
    else:
        try:
            await outbox.guard.check(setup.url)
        except UnusableURL as error:
            faults.append(Fault("/url", error.code, f"url {error.detail}"))
    for index, wanted in enumerate(setup.events):
        plain = wanted.removesuffix(".*") if wanted != "*" else "x"
        if not plain or not set(plain) <= _KIND_CHARACTERS:
            detail = f"events: {wanted[:60]!r} is none; write alert.fired, invoice.* or *."
            faults.append(Fault(f"/events/{index}", "invalid_value", detail))
    if setup.wants_events and setup.type != "webhook":
        detail = "events: every event is told to a webhook alone."
        faults.append(Fault("/events", "invalid_value", detail))
    for name, is_given in (("match", setup.match is not None), ("batch", setup.batch != 1)):
        if is_given and not setup.wants_events:
            detail = f'{name} goes with "events": ["event"].'
            faults.append(Fault(f"/{name}", "invalid_value", detail))
    if setup.type != "webhook" and setup.signature is not None:
        detail = f"A channel of type {setup.type} signs nothing."
        faults.append(Fault("/signature", "invalid_value", detail))
    return faults


def check_secret(setup: Setup, secret: str | None) -> list[Fault]:
    """What is wrong with a secret that the caller brings."""
    if secret is None:
        return []
    if setup.type != "webhook":
        detail = f"A channel of type {setup.type} has no secret."
        return [Fault("/secret", "invalid_value", detail)]
    try:
        checked_secret(secret, setup.signature or "hmac")
    except ValueError as error:
        return [Fault("/secret", "invalid_secret", f"secret {error}")]
    return []


async def create(
    system: System, who: Who, key: str, setup: Setup, *, customer: str | None, secret: str | None
) -> Shown:
    """A new one; of a bound caller, its own customer's. Raises Invalid, Conflict, Forbidden, NotFound."""
    outbox, now_us = outbox_of(system), system.clock.now_us()
    await _check(outbox, setup, secret)
    kept, made = _secret_of(outbox, setup, secret)
    owner = customer if customer is not None else who.bound
    recorded_us = system.recorder.recorded_at_us

    def work() -> Shown:
        if owner is not None:
            narrowed(system.catalog, who.tenant, who.bound, (owner,))
        if setup.wants_events:
            check_match(system, who.tenant, owner, setup.match or Match())
        channel = outbox.catalog.create_channel(
            who.tenant,
            key,
            setup,
            customer=owner,
            secret=kept,
            recorded_us=recorded_us,
            actor=who.actor,
            now_us=now_us,
        )
        return shown(outbox, channel, made)

    return await in_questions(system, work)


async def change(
    system: System,
    who: Who,
    key: str,
    setup: Setup,
    *,
    secret: str | None,
    expected: Callable[[Shown], None],
) -> Shown:
    """Everything a person sets, anew. Another kind of signature needs another secret: one is made where none is given."""
    outbox, now_us = outbox_of(system), system.clock.now_us()
    present = await get(system, who, key)
    if setup.type != present.channel.setup.type:
        detail = f"The type of a channel stays: it is {present.channel.setup.type}."
        raise Invalid(detail, faults=[Fault("/type", "invalid_value", detail)])
    await _check(outbox, setup, secret)
    resigned = setup.signature != present.channel.setup.signature
    kept, made = _secret_of(outbox, setup, secret) if secret is not None or resigned else (None, None)
    recorded_us = system.recorder.recorded_at_us

    def work() -> Shown:
        if setup.wants_events:
            check_match(system, who.tenant, present.channel.customer, setup.match or Match())
        changed = outbox.catalog.change_channel(
            who.tenant,
            key,
            setup,
            expected=_as_seen(outbox, present, expected),
            secret=kept,
            recorded_us=recorded_us,
            actor=who.actor,
            now_us=now_us,
        )
        return shown(outbox, changed, made)

    return await in_questions(system, work)


async def rotate(system: System, who: Who, key: str, *, secret: str | None, overlap_s: int) -> Shown:
    """A new secret; the one before signs too for `overlap_s`. Raises Conflict (channel_unsigned)."""
    outbox, now_us = outbox_of(system), system.clock.now_us()
    present = await get(system, who, key)
    setup = present.channel.setup
    if setup.type != "webhook":
        raise Conflict(f"A channel of type {setup.type} has no secret.", code="channel_unsigned")
    await _check(outbox, setup, secret, only_secret=True)
    kept, made = _secret_of(outbox, setup, secret)

    def work() -> Shown:
        changed = outbox.catalog.change_channel(
            who.tenant,
            key,
            setup,
            expected=_as_seen(outbox, present, lambda _: None),
            secret=kept,
            overlap_us=overlap_s * 1_000_000,
            actor=who.actor,
            now_us=now_us,
        )
        return shown(outbox, changed, made)

    return await in_questions(system, work)


async def delete(system: System, who: Who, key: str, *, expected: Callable[[Shown], None]) -> None:
    """What is pending for it ends."""
    outbox, now_us = outbox_of(system), system.clock.now_us()
    present = await get(system, who, key)
    await in_questions(
        system,
        lambda: outbox.catalog.delete_channel(
            who.tenant, key, expected=_as_seen(outbox, present, expected), actor=who.actor, now_us=now_us
        ),
    )


async def get(system: System, who: Who, key: str) -> Shown:
    """Raises NotFound (channel_not_found): also for what the caller may not see."""
    outbox = outbox_of(system)

    def work() -> Shown:
        channel = outbox.catalog.channel(who.tenant, key)
        seen = visible(system.catalog, who.tenant, who.bound)
        if seen is not None and channel.customer not in seen:
            raise NotFound(
                f"There is no channel {key!r}. GET /v1/channels lists them.", code="channel_not_found"
            )
        return shown(outbox, channel)

    return await in_questions(system, work)


async def send_test(system: System, who: Who, key: str) -> Delivery:
    """Send a test message; the delivery after its first attempt, or as it is after some seconds. Raises Conflict
    (channel_disabled)."""
    outbox = outbox_of(system)
    channel = (await get(system, who, key)).channel
    now_us = system.clock.now_us()
    notice = Notice(
        tenant=who.tenant,
        id=f"test_{secrets.token_hex(10)}",
        kind=TEST_KIND,
        summary=f"This is a test of the channel {channel.key}.",
        data={"channel": channel.key},
        at_us=now_us,
        customer=channel.customer,
        channels=(channel.key,),
        only_named=True,
    )
    names = await in_questions(system, lambda: outbox.catalog.enqueue(notice, now_us=now_us))
    if not names:
        raise Conflict(f"The channel {key!r} is disabled. Enable it (PUT) first.", code=DISABLED)
    until_s, pause_s = monotonic() + TEST_WAIT_S_MAX, 0.02
    while True:
        found = await in_questions(system, lambda: outbox.catalog.delivery(who.tenant, names[0]))
        if found.status != "pending" or found.last_error is not None or monotonic() > until_s:
            return found
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.25)


def shown(outbox: Outbox, channel: Channel, made: str | None = None) -> Shown:
    """With what may be told of its secret."""
    try:
        secret = None if channel.secret is None else outbox.seal.open(channel.secret)
    except TallystickError:
        secret = None
    if secret is None:
        return Shown(channel, None, None, made)
    return Shown(channel, fingerprint(secret), public_key(secret), made)


def _as_seen(outbox: Outbox, present: Shown, expected: Callable[[Shown], None]) -> Callable[[Channel], None]:
    """Still the channel that the caller was found to see, and in the state it expects."""

    def check(found: Channel) -> None:
        if found.number != present.channel.number:
            raise NotFound(f"There is no channel {found.key!r}.", code="channel_not_found")
        expected(shown(outbox, found))

    return check


def _secret_of(outbox: Outbox, setup: Setup, secret: str | None) -> tuple[str | None, str | None]:
    """As it is kept; and in words where it was made here."""
    if setup.type != "webhook":
        return None, None
    kind = setup.signature or "hmac"
    made = new_secret(kind) if secret is None else None
    return outbox.seal.close(checked_secret(secret, kind) if made is None and secret else made or ""), made


async def _check(outbox: Outbox, setup: Setup, secret: str | None, *, only_secret: bool = False) -> None:
    faults = [*([] if only_secret else await check_setup(outbox, setup)), *check_secret(setup, secret)]
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), code=faults[0].code, faults=faults)


def signed_setup(setup: Setup) -> Setup:
    """With the signature a webhook has where nothing else is said."""
    if setup.type == "webhook" and setup.signature is None:
        return msgspec.structs.replace(setup, signature="hmac")
    return setup
