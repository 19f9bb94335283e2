"""`/v1/channels`: where news goes: webhooks, e-mail, Slack. A customer's token has channels of its own."""

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

from litestar import Request, delete, get, post, put
from litestar.response import Response
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, check_scope, require
from tallystick.api.deliveries import DELIVERY_WITH_ATTEMPTS, delivery_document
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, etag_of, listed_in
from tallystick.api.openapi import (
    KEY,
    PAGE,
    STRING,
    TIME,
    Schema,
    array,
    listing,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.catalog.delivering import (
    BATCH_EVENTS_MAX,
    CHANNEL_TYPES,
    RECIPIENTS_MAX,
    SIGNATURES,
    ChannelType,
    Match,
    Setup,
    Signature,
)
from tallystick.document import KEY_PATTERN
from tallystick.flows import channels
from tallystick.flows.channels import OVERLAP_S_DEFAULT, OVERLAP_S_MAX, Shown, Who
from tallystick.flows.customers import narrowed
from tallystick.flows.outbox import outbox_of
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]
NAME_CHARACTERS_MAX = 256
URL_CHARACTERS_MAX = 2048
FILTER_CHARACTERS_MAX = 1024
FILTERS_MAX = 20


def channel_document(found: Shown) -> dict[str, Any]:
    """A channel on the wire, without its secret."""
    channel, setup = found.channel, found.channel.setup
    return {
        "key": channel.key,
        "name": setup.name,
        "type": setup.type,
        "url": setup.url,
        "to": list(setup.to),
        "events": list(setup.events),
        "match": None if setup.match is None else match_document(setup.match),
        "batch": setup.batch,
        "ordered": setup.ordered,
        "signature": setup.signature,
        "customer": channel.customer,
        "enabled": channel.sends,
        "disabled_reason": channel.disabled_reason,
        "secret_fingerprint": found.fingerprint,
        "public_key": found.public_key,
        "previous_secret_until": wire.optional_time_text(channel.previous_until_us),
        "created_at": wire.time_text(channel.created_at_us),
        "changed_at": wire.time_text(channel.changed_at_us),
    }


def match_document(match: Match) -> dict[str, Any]:
    """Of which events a channel is told."""
    return {
        "type": list(match.type),
        "customer": list(match.customer),
        "meter": match.meter,
        "filter": match.filter,
    }


def _answer(found: Shown, *, status: int = 200, secret: bool = False, **headers: str) -> Response[Any]:
    """With its ETag; `secret`: and with the secret, null where the caller has brought it."""
    document = channel_document(found)
    headers = {"ETag": etag_of(document), **headers}
    if secret or found.secret is not None:
        document["secret"] = found.secret
    return Response(document, status_code=status, headers=headers)


def _who(request: Connection) -> Who:
    found = caller(request)
    return Who(found.tenant, found.customer, actor_of(request))


_TYPE: Schema = {"type": "string", "enum": list(CHANNEL_TYPES)}
_SIGNATURE: Schema = {
    "type": "string",
    "enum": list(SIGNATURES),
    "description": "Of a webhook: HMAC-SHA256 with a shared secret (the default), or Ed25519 with a public key.",
}
_EVENTS = array(
    STRING,
    description="Kinds of news it subscribes to, such as `alert.fired`, `invoice.*` or `*`; what names the channel itself, as "
    "an alert does, comes anyway. `event` is every event that is recorded (and no part of `*`).",
)
_MATCH: Schema = {
    **objects(
        {
            "type": array(STRING),
            "customer": array(STRING),
            "meter": nullable(STRING),
            "filter": {"type": "object", "additionalProperties": STRING},
        },
        required=(),
    ),
    "description": "Of which events it is told: of these types and customers, that count for this meter, with these values of "
    "its dimensions. Left out: of all.",
}
_BATCH: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": BATCH_EVENTS_MAX,
    "description": "How many events one message may hold: 1 (the default) sends each by itself.",
}
_MEMBERS: dict[str, Schema] = {
    "name": STRING,
    "url": nullable({"type": "string", "description": "Of a webhook or of Slack."}),
    "to": {
        **array(STRING, maxItems=RECIPIENTS_MAX),
        "description": "Addresses, of e-mail. One may stand alone.",
        "type": ["array", "string"],
    },
    "events": _EVENTS,
    "match": nullable(_MATCH),
    "batch": _BATCH,
    "ordered": {
        "type": "boolean",
        "description": "One at a time and in order: one that fails holds back those behind it.",
    },
    "signature": nullable(_SIGNATURE),
    "enabled": {"type": "boolean", "default": True},
    "secret": {
        "type": ["string", "null"],
        "description": "Of a webhook: `whsec_` (or `whsk_`) and base64. One is made where none is given.",
    },
}
_CHANNEL_PROPERTIES: dict[str, Schema] = {
    "key": KEY,
    "name": STRING,
    "type": _TYPE,
    "url": nullable(STRING),
    "to": array(STRING),
    "events": _EVENTS,
    "match": nullable(_MATCH),
    "batch": _BATCH,
    "ordered": {"type": "boolean"},
    "signature": nullable(_SIGNATURE),
    "customer": nullable({"type": "string", "description": "Whose it is; null: the tenant's."}),
    "enabled": {"type": "boolean"},
    "disabled_reason": nullable(
        {"type": "string", "description": "`gone`: the endpoint answered 410. PUT enables it again."}
    ),
    "secret_fingerprint": nullable({"type": "string", "description": "Tells secrets apart."}),
    "public_key": nullable({"type": "string", "description": "`whpk_…`, to verify Ed25519 signatures."}),
    "previous_secret_until": nullable(TIME),
    "created_at": TIME,
    "changed_at": TIME,
}
_CHANNEL = objects(_CHANNEL_PROPERTIES)
_SECRET: Schema = {
    "type": ["string", "null"],
    "description": "The one that was made, in this answer alone.",
}
_NEW_CHANNEL = objects({**_CHANNEL_PROPERTIES, "secret": _SECRET})
_CHANGED_CHANNEL = objects({**_CHANNEL_PROPERTIES, "secret": _SECRET}, required=_CHANNEL_PROPERTIES)
_EXAMPLE = {
    "key": "ops",
    "name": "Operations",
    "type": "webhook",
    "url": "https://example.com/hooks/tallystick",
    "events": ["alert.*"],
}


def _read_setup(fields: Fields, kind: ChannelType, key: str) -> tuple[Setup, str | None]:
    """What a body sets, and the secret it brings."""
    raw_enabled = fields.take("enabled")
    setup = Setup(
        type=kind,
        name=fields.text("name", characters_max=NAME_CHARACTERS_MAX) or key,
        url=fields.text("url", characters_max=URL_CHARACTERS_MAX),
        to=fields.texts("to", items_max=RECIPIENTS_MAX) or (),
        events=fields.texts("events", items_max=channels.EVENTS_MAX) or (),
        ordered=fields.boolean("ordered"),
        signature=cast("Signature | None", fields.choice("signature", SIGNATURES)),
        enabled=True if raw_enabled is None else fields.boolean("enabled"),
        match=_read_match(fields),
        batch=fields.integer("batch", least=1, most=BATCH_EVENTS_MAX) or 1,
    )
    if kind == "email" and setup.url is not None:
        fields.fault("url", "invalid_value", "A channel of type email has no url, but `to`.")
    if kind != "email" and setup.to:
        fields.fault("to", "invalid_value", f"A channel of type {kind} has no `to`, but a url.")
    return channels.signed_setup(setup), fields.text("secret")


def _read_match(fields: Fields) -> Match | None:
    raw = fields.take("match")
    if raw is None:
        return None
    if not isinstance(raw, dict):
        fields.fault("match", "invalid_type", "match must be an object.")
        return None
    below = fields.within(cast("dict[str, Any]", raw), "match")
    values = below.take("filter")
    made: dict[str, str] = {}
    if values is not None and not isinstance(values, dict):
        below.fault("filter", "invalid_type", "filter must be an object of texts.")
    elif values is not None:
        for name, value in cast("dict[str, Any]", values).items():
            if isinstance(value, str) and len(value) <= FILTER_CHARACTERS_MAX and len(made) < FILTERS_MAX:
                made[name] = value
            else:
                detail = f"filter has at most {FILTERS_MAX} members, each a text."
                below.fault("filter", "invalid_value", detail, name)
    match = Match(
        type=below.texts("type") or (),
        customer=below.texts("customer") or (),
        meter=below.text("meter", characters_max=128),
        filter=made,
    )
    if made and match.meter is None:
        below.fault("meter", "missing", "A filter is of a dimension of a meter: name it.")
    below.close()
    return match


def _check_events(request: Connection, setup: Setup) -> None:
    """Who may not read events may not have them sent either."""
    if setup.wants_events:
        check_scope(caller(request), "events:read")


@post(
    "/v1/channels",
    guards=[require("alerts:write")],
    status_code=201,
    opt={
        "secret_members": ("secret",),
        "operation": operation(
            summary="Create a channel",
            tag="Channels",
            description="A customer's token makes channels of its own customer: they are told of that customer alone. See "
            "docs/howto/webhooks.md.",
            body=objects(
                {
                    "key": KEY,
                    "type": _TYPE,
                    "customer": nullable(
                        {"type": "string", "description": "Whose it is to be; the tenant's otherwise."}
                    ),
                    **_MEMBERS,
                },
                required=("key", "type"),
                additionalProperties=False,
            ),
            body_example=_EXAMPLE,
            answer=_NEW_CHANNEL,
            status=201,
            creates=True,
            errors=(404, 409),
        ),
    },
)
async def create_channel(request: Connection) -> Response[Any]:
    """A secret that is made here is in this answer and nowhere else."""
    fields = await Fields.of_body(request, nulls=False)
    key = fields.key("key", KEY_PATTERN)
    kind = fields.choice("type", CHANNEL_TYPES)
    if kind is None and fields.take("type") is None:
        fields.fault("type", "missing", f"type is required: one of {', '.join(CHANNEL_TYPES)}.")
    customer = fields.text("customer", characters_max=256)
    setup, secret = _read_setup(fields, cast("ChannelType", kind or "webhook"), key)
    fields.finish()
    _check_events(request, setup)
    made = await channels.create(
        wire.system_of(request), _who(request), key, setup, customer=customer, secret=secret
    )
    return _answer(made, status=201, secret=True, Location=f"/v1/channels/{quote(key, safe='')}")


@get(
    "/v1/channels",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="List channels",
            tag="Channels",
            parameters=[query("customer", "Of these customers.", repeated=True), *PAGE],
            answer=listing(_CHANNEL),
        )
    },
)
async def list_channels(request: Connection) -> dict[str, Any]:
    """By key; never a secret."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    asked = fields.texts("customer")
    limit, cursor = fields.catalog_page()
    fields.finish()
    outbox = outbox_of(system)

    def work() -> dict[str, Any]:
        owners = narrowed(system.catalog, who.tenant, who.customer, asked)
        page = outbox.catalog.channels(who.tenant, customers=owners, cursor=cursor, limit=limit)
        shown = (channel_document(channels.shown(outbox, one)) for one in page.items)
        return wire.page_answer(shown, page.next_cursor)

    return await in_questions(system, work)


@get(
    "/v1/channels/{key:str}",
    guards=[require("alerts:read")],
    opt={
        "operation": operation(
            summary="Read a channel",
            tag="Channels",
            answer=_CHANNEL,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_channel(request: Connection) -> Response[Any]:
    """One channel; never its secret."""
    wire.check_parameters(request, ())
    found = await channels.get(wire.system_of(request), _who(request), request.path_params["key"])
    etag = etag_of(channel_document(found))
    if listed_in(request.headers.get("if-none-match"), etag):
        return Response(None, status_code=304, headers={"ETag": etag})
    return _answer(found)


@put(
    "/v1/channels/{key:str}",
    guards=[require("alerts:write")],
    opt={
        "secret_members": ("secret",),
        "operation": operation(
            summary="Set a channel anew",
            tag="Channels",
            description="Everything but its key, its type and whose it is; what is left out takes its default, the secret "
            "stays. Enables a channel that the server has disabled. With `enabled: false`, what is pending for it ends.",
            body=objects(
                {"key": KEY, "type": _TYPE, "customer": nullable(STRING), **_MEMBERS},
                required=(),
                additionalProperties=False,
            ),
            body_example={
                "name": "Operations",
                "url": "https://example.com/hooks/new",
                "events": ["alert.*"],
            },
            answer=_CHANGED_CHANNEL,
            errors=(409, 412),
        ),
    },
)
async def change_channel(request: Connection) -> Response[Any]:
    """All of it at once."""
    system, who = wire.system_of(request), _who(request)
    key: str = request.path_params["key"]
    fields = await Fields.of_body(request, nulls=False)
    present = await channels.get(system, who, key)
    kind = fields.choice("type", CHANNEL_TYPES) or present.channel.setup.type
    if (fields.text("key") or key) != key:
        fields.fault("key", "key_immutable", "A channel's key cannot be changed.")
    owner = fields.text("customer")
    if owner is not None and owner != present.channel.customer:
        fields.fault("customer", "invalid_value", "Whose channel it is cannot be changed: make another one.")
    setup, secret = _read_setup(fields, cast("ChannelType", kind), key)
    fields.finish()
    _check_events(request, setup)
    changed = await channels.change(
        system,
        who,
        key,
        setup,
        secret=secret,
        expected=lambda found: check_if_match(request, channel_document(found)),
    )
    return _answer(changed)


@delete(
    "/v1/channels/{key:str}",
    guards=[require("alerts:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Delete a channel",
            tag="Channels",
            description="What is pending for it ends; the log of its deliveries stays.",
            status=204,
            errors=(412,),
        )
    },
)
async def delete_channel(request: Connection) -> None:
    """For good."""
    await channels.delete(
        wire.system_of(request),
        _who(request),
        request.path_params["key"],
        expected=lambda found: check_if_match(request, channel_document(found)),
    )


@post(
    "/v1/channels/{key:str}/rotate",
    guards=[require("alerts:write")],
    status_code=201,
    opt={
        "secret_members": ("secret",),
        "operation": operation(
            summary="Give a webhook a new secret",
            tag="Channels",
            description="For `overlap_seconds` messages carry a signature by each of both secrets. The body may be left out.",
            body=objects(
                {
                    "overlap_seconds": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": OVERLAP_S_MAX,
                        "default": OVERLAP_S_DEFAULT,
                    },
                    "secret": _MEMBERS["secret"],
                },
                required=(),
                additionalProperties=False,
            ),
            body_example={"overlap_seconds": 3600},
            body_required=False,
            answer=_NEW_CHANNEL,
            status=201,
            creates=True,
            errors=(409,),
        ),
    },
)
async def rotate_channel(request: Connection) -> Response[Any]:
    """A new secret, shown here alone."""
    overlap_s: int | None = None
    secret: str | None = None
    if await wire.arrived(request):
        fields = await Fields.of_body(request, nulls=False)
        overlap_s = fields.integer("overlap_seconds", least=0, most=OVERLAP_S_MAX)
        secret = fields.text("secret")
        fields.finish()
    else:
        wire.check_parameters(request, ())
    made = await channels.rotate(
        wire.system_of(request),
        _who(request),
        request.path_params["key"],
        secret=secret,
        overlap_s=OVERLAP_S_DEFAULT if overlap_s is None else overlap_s,
    )
    return _answer(made, status=201, secret=True)


@post(
    "/v1/channels/{key:str}/test",
    guards=[require("alerts:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Send a test message to a channel",
            tag="Channels",
            description="Answers the delivery after its first attempt (or as it is after ten seconds): `status` is "
            "`delivered`, or the last attempt says what was wrong.",
            answer=DELIVERY_WITH_ATTEMPTS,
            errors=(409,),
            creates=True,
        )
    },
)
async def send_test(request: Connection) -> dict[str, Any]:
    """A delivery of kind `channel.test`."""
    system = wire.system_of(request)
    wire.check_parameters(request, ())
    found = await channels.send_test(system, _who(request), request.path_params["key"])
    outbox = outbox_of(system)
    attempts = await in_questions(system, lambda: outbox.catalog.delivery_attempts(found))
    return delivery_document(found, attempts)


ROUTES: Sequence[ControllerRouterHandler] = (
    create_channel,
    list_channels,
    get_channel,
    change_channel,
    delete_channel,
    rotate_channel,
    send_test,
)
