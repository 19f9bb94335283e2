"""`/v1/billing/meters`: create, list, retrieve, update, deactivate, reactivate.

A meter's key is its `event_name`, or is made from it where that cannot be a key; the id is the key, encoded. What Stripe
says of a meter beyond our definition stands in the description (note.py). A pre-aggregated meter (`event_time_window`)
takes the last event of each customer and window: an aggregate over the latest of each.
"""

import base64
import binascii
import re
from typing import Any

from litestar import Request, get, post
from xxhash import xxh3_64_hexdigest

from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat.note import noted, unnoted
from tallystick.api.compat.stripe.parameters import Parameters
from tallystick.api.compat.stripe.shape import (
    BASE,
    LIST_PARAMETERS,
    form,
    listing_of,
    live_mode,
    operation_of,
    paged,
    read_page,
    seconds,
)
from tallystick.api.openapi import STRING, nullable, objects, query
from tallystick.api.wire import invalid, system_of
from tallystick.catalog.interface import LIMIT_MAX
from tallystick.errors import Conflict, NotFound
from tallystick.flows.customers import check_unbound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions
from tallystick.metering.definition import KEY_PATTERN, definition_to_wire, parse_meter
from tallystick.metering.meter import Meter
from tallystick.metering.path import steps_of

Connection = Request[Any, Any, Any]

PATH = f"{BASE}/v1/billing/meters"
CUSTOMER_KEY, VALUE_KEY = "stripe_customer_id", "value"
FORMULAS = {"sum": "sum", "count": "count", "last": "latest"}
_FORMULA_OF = {aggregation: formula for formula, aggregation in FORMULAS.items()}
_KEY = re.compile(KEY_PATTERN.removesuffix("$"), re.ASCII)
_PREFIX = "mtr_"
_NAME_CHARACTERS_MAX = 100
_KEYS_CHARACTERS_MAX = 100

_INTEGER = {"type": "integer"}
METER = objects(
    {
        "id": STRING,
        "object": STRING,
        "created": _INTEGER,
        "customer_mapping": objects({"event_payload_key": STRING, "type": STRING}),
        "default_aggregation": objects({"formula": STRING}),
        "display_name": STRING,
        "event_name": STRING,
        "event_time_window": nullable(STRING),
        "livemode": {"type": "boolean"},
        "status": {"type": "string", "enum": ["active", "inactive"]},
        "status_transitions": objects({"deactivated_at": nullable(_INTEGER)}),
        "updated": _INTEGER,
        "value_settings": objects({"event_payload_key": STRING}),
    }
)


def key_of(event_name: str) -> str:
    """The key of the meter for this event name."""
    return event_name if _KEY.fullmatch(event_name) else f"stripe-{xxh3_64_hexdigest(event_name.encode())}"


def id_of(meter: Meter) -> str:
    return _PREFIX + base64.b32encode(meter.key.encode()).decode().rstrip("=").lower()


def _key_behind(meter_id: str) -> str:
    """The key in an id. Raises NotFound."""
    text = meter_id.removeprefix(_PREFIX).upper()
    if text == meter_id.upper():
        raise no_such_meter(meter_id)
    try:
        return base64.b32decode(text + "=" * (-len(text) % 8)).decode()
    except (binascii.Error, ValueError):
        raise no_such_meter(meter_id) from None


def no_such_meter(meter_id: str) -> NotFound:
    return NotFound(f"No such billing meter: '{meter_id[:120]}'", code="meter_not_found")


def meter_with(system: System, tenant: str, meter_id: str) -> Meter:
    """The meter of an id, archived ones too. Synchronous. Raises NotFound."""
    key = _key_behind(meter_id)
    try:
        return system.catalog.meter(tenant, key)
    except NotFound:
        raise no_such_meter(meter_id) from None


def payload_keys(meter: Meter | None) -> tuple[str, str | None]:
    """Where an event's payload has its customer, and its value (None: the meter reads none)."""
    if meter is None:
        return CUSTOMER_KEY, None
    _, said = unnoted(meter.description, "stripe")
    return str(said.get("customer", CUSTOMER_KEY)), _value_key(meter)


def _value_key(meter: Meter) -> str | None:
    return None if meter.value is None else str(steps_of(meter.value)[0])


def meter_document(meter: Meter, *, livemode: bool) -> dict[str, Any]:
    """A meter as Stripe shows it."""
    _, said = unnoted(meter.description, "stripe")
    archived_at_us = meter.archived_at_us
    changed_at_us = meter.created_at_us if archived_at_us is None else archived_at_us
    return {
        "id": id_of(meter),
        "object": "billing.meter",
        "created": seconds(meter.created_at_us),
        "customer_mapping": {"event_payload_key": said.get("customer", CUSTOMER_KEY), "type": "by_id"},
        "default_aggregation": {"formula": _FORMULA_OF.get(meter.aggregation.value, meter.aggregation.value)},
        "display_name": meter.name,
        "event_name": meter.event_type,
        "event_time_window": None if meter.of is None else meter.of.window.value,
        "livemode": livemode,
        "status": "active" if archived_at_us is None else "inactive",
        "status_transitions": {"deactivated_at": None if archived_at_us is None else seconds(archived_at_us)},
        "updated": seconds(changed_at_us),
        "value_settings": {"event_payload_key": said.get("value") or _value_key(meter) or VALUE_KEY},
    }


def _definition(parameters: Parameters) -> dict[str, Any]:
    """Our definition, from Stripe's parameters. Faults are left in them."""
    event_name = parameters.text("event_name", required=True, characters_max=_NAME_CHARACTERS_MAX) or ""
    display_name = parameters.text("display_name", required=True, characters_max=250)
    window = parameters.choice("event_time_window", ("day", "hour"))
    aggregated = parameters.within("default_aggregation")
    if aggregated is None:
        parameters.fault(
            "default_aggregation", "missing", "Missing required param: default_aggregation[formula]."
        )
        formula = None
    else:
        formula = aggregated.choice("formula", tuple(FORMULAS), required=True)
    customer_key, value_key = CUSTOMER_KEY, VALUE_KEY
    mapping = parameters.within("customer_mapping")
    if mapping is not None:
        mapping.choice("type", ("by_id",), required=True)
        customer_key = _payload_key(mapping) or CUSTOMER_KEY
    settings = parameters.within("value_settings")
    if settings is not None:
        value_key = _payload_key(settings) or VALUE_KEY
    made: dict[str, Any] = {
        "key": key_of(event_name),
        "name": display_name,
        "event_type": event_name,
        "aggregation": FORMULAS.get(formula or "", "sum"),
        "description": noted(
            None,
            "stripe",
            {
                "customer": customer_key if customer_key != CUSTOMER_KEY else None,
                "value": value_key if value_key != VALUE_KEY else None,
            },
        ),
    }
    escaped = value_key.replace("\\", "\\\\").replace("'", "\\'")
    if formula != "count" or window is not None:
        made["value"] = f"$['{escaped}']"
    if window is not None:
        made["of"] = {"aggregation": "latest", "window": window}
    return made


def _payload_key(parameters: Parameters) -> str | None:
    return parameters.text("event_payload_key", required=True, characters_max=_KEYS_CHARACTERS_MAX)


_NEW = objects(
    {
        "display_name": STRING,
        "event_name": STRING,
        "default_aggregation[formula]": {"type": "string", "enum": [*FORMULAS]},
        "event_time_window": {"type": "string", "enum": ["day", "hour"]},
        "customer_mapping[type]": {"type": "string", "enum": ["by_id"]},
        "customer_mapping[event_payload_key]": STRING,
        "value_settings[event_payload_key]": STRING,
    },
    required=("display_name", "event_name", "default_aggregation[formula]"),
)


@post(
    PATH,
    guards=[require("meters:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Create a meter (Stripe)",
            body_types=form(
                _NEW, "display_name=Tokens&event_name=tokens&default_aggregation%5Bformula%5D=sum"
            ),
            answer=METER,
            creates=True,
        )
    },
)
async def create_meter(request: Connection) -> dict[str, Any]:
    """It counts events that came before it, too."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    parameters = await Parameters.of_form(request)
    definition = _definition(parameters)
    parameters.finish()
    parsed = parse_meter(definition)
    actor, now_us = actor_of(request), system.clock.now_us()
    try:
        made = await in_questions(
            system, lambda: system.catalog.create_meter(who.tenant, parsed, actor=actor, now_us=now_us)
        )
    except Conflict as error:
        if error.code != "meter_exists":
            raise
        detail = f"There is already an active meter with the event name {parsed.event_type}."
        raise invalid("event_name", "meter_exists", detail) from None
    return await _shown(request, made)


async def _shown(request: Connection, meter: Meter) -> dict[str, Any]:
    system, who = system_of(request), caller(request)
    livemode = await in_questions(system, lambda: live_mode(system, who.tenant))
    return meter_document(meter, livemode=livemode)


@get(
    PATH,
    guards=[require("meters:read")],
    opt={
        "operation": operation_of(
            summary="List meters (Stripe)",
            parameters=[*LIST_PARAMETERS, query("status", "active or inactive.")],
            answer=listing_of(METER),
        )
    },
)
async def list_meters(request: Connection) -> dict[str, Any]:
    """Newest first."""
    system, who = system_of(request), caller(request)
    parameters = Parameters.of_query(request)
    page = read_page(parameters)
    status = parameters.choice("status", ("active", "inactive"))
    parameters.finish()

    def read() -> tuple[list[Meter], bool]:
        meters: list[Meter] = []
        cursor: str | None = None
        while True:
            found = system.catalog.meters(who.tenant, archived=True, cursor=cursor, limit=LIMIT_MAX)
            meters += found.items
            cursor = found.next_cursor
            if cursor is None:
                return meters, live_mode(system, who.tenant)

    meters, livemode = await in_questions(system, read)
    meters.sort(key=lambda meter: (-meter.created_at_us, meter.key))
    documents = [
        meter_document(meter, livemode=livemode)
        for meter in meters
        if status is None or (meter.archived_at_us is None) == (status == "active")
    ]
    return paged(documents, page, "/v1/billing/meters", id_of=lambda document: document["id"])


async def _meter(request: Connection) -> Meter:
    system, who = system_of(request), caller(request)
    meter_id: str = request.path_params["id"]
    return await in_questions(system, lambda: meter_with(system, who.tenant, meter_id))


@get(
    f"{PATH}/{{id:str}}",
    guards=[require("meters:read")],
    opt={"operation": operation_of(summary="Retrieve a meter (Stripe)", answer=METER)},
)
async def get_meter(request: Connection) -> dict[str, Any]:
    """Inactive ones too."""
    Parameters.of_query(request).finish()
    return await _shown(request, await _meter(request))


@post(
    f"{PATH}/{{id:str}}",
    guards=[require("meters:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Rename a meter (Stripe)",
            body_types=form(objects({"display_name": STRING}, required=()), "display_name=Tokens"),
            body_required=False,
            answer=METER,
        )
    },
)
async def change_meter(request: Connection) -> dict[str, Any]:
    """Its name is all that may change."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    parameters = await Parameters.of_form(request)
    name = parameters.text("display_name", characters_max=250)
    parameters.finish()
    present = await _meter(request)
    if name is None:
        return await _shown(request, present)
    parsed = parse_meter({**definition_to_wire(present), "name": name})
    actor, now_us = actor_of(request), system.clock.now_us()
    return await _shown(
        request,
        await in_questions(
            system,
            lambda: system.catalog.change_meter(who.tenant, present.key, parsed, actor=actor, now_us=now_us),
        ),
    )


@post(
    f"{PATH}/{{id:str}}/deactivate",
    guards=[require("meters:write")],
    status_code=200,
    opt={"operation": operation_of(summary="Deactivate a meter (Stripe)", answer=METER)},
)
async def deactivate_meter(request: Connection) -> dict[str, Any]:
    """It counts nothing from then on."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    present = await _meter(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    archived = await in_questions(
        system,
        lambda: system.catalog.archive_meter(who.tenant, present.key, actor=actor, now_us=now_us),
    )
    return await _shown(request, archived)


@post(
    f"{PATH}/{{id:str}}/reactivate",
    guards=[require("meters:write")],
    status_code=200,
    opt={"operation": operation_of(summary="Reactivate a meter (Stripe)", answer=METER)},
)
async def reactivate_meter(request: Connection) -> dict[str, Any]:
    """It counts again, what came meanwhile too."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    present = await _meter(request)
    if present.archived_at_us is None:
        return await _shown(request, present)
    parsed = parse_meter(definition_to_wire(present))
    actor, now_us = actor_of(request), system.clock.now_us()
    return await _shown(
        request,
        await in_questions(
            system, lambda: system.catalog.create_meter(who.tenant, parsed, actor=actor, now_us=now_us)
        ),
    )


ROUTES = [create_meter, list_meters, get_meter, change_meter, deactivate_meter, reactivate_meter]
