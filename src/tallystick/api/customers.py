"""`/v1/customers`: who pays, and which subjects are theirs. What a valid customer is stands in the catalog."""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, cast
from urllib.parse import quote

from litestar import Request, Response, delete, get, patch, post
from msgspec import UNSET

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.fields import Fields
from tallystick.api.meters import check_if_match, read_as, tagged
from tallystick.api.openapi import PAGE, STRING, TIME, array, listing, nullable, objects, operation, query
from tallystick.catalog.customer_values import checked_values
from tallystick.catalog.interface import STAGES, Customer, CustomerChange, CustomerSearch
from tallystick.flows import customers
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

SUBJECTS_MAX = 10_000

_MEMBERS = ("name", "subjects", "parent", "currency", "timezone", "email", "external_ids", "traits", "stage")
_NULLABLE = ("parent", "currency", "email")


def customer_document(customer: Customer) -> dict[str, Any]:
    """A customer on the wire."""
    return {
        "key": customer.key,
        "name": customer.name,
        "subjects": list(customer.subjects),
        "parent": customer.parent,
        "currency": customer.currency,
        "timezone": customer.timezone,
        "email": customer.email,
        "external_ids": dict(customer.external_ids),
        "traits": dict(customer.traits),
        "stage": customer.stage,
        "merged_into": customer.merged_into,
        "created_at": wire.time_text(customer.created_at_us),
        "archived_at": wire.optional_time_text(customer.archived_at_us),
    }


def read_change(fields: Fields) -> CustomerChange:
    """The members given, each of the right kind; what they may hold is the catalog's to judge. null stands for "none"
    where there can be none, and for the empty list or object. Faults are left in `fields`."""
    given: dict[str, Any] = {}
    fields.know(*_MEMBERS)
    names = set(fields.names())
    for name in ("name", "timezone", "stage", *_NULLABLE):
        if name in names:
            value = fields.text(name)
            if value is None and name not in _NULLABLE:
                if fields.take(name) is None:
                    fields.fault(name, "invalid_value", f"{name} cannot be null; leave it out to keep it.")
            else:
                given[name] = value
    if "subjects" in names:
        given["subjects"] = fields.texts("subjects", items_max=SUBJECTS_MAX) or ()
    for name in ("external_ids", "traits"):
        if name in names:
            given[name] = _object(fields, name)
    return CustomerChange(**{name: given.get(name, UNSET) for name in _MEMBERS})


def _object(fields: Fields, name: str) -> Mapping[str, Any]:
    value = fields.take(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        fields.fault(name, "invalid_value", f"{name} must be an object.")
        return {}
    made = cast("dict[str, Any]", value)
    if name == "external_ids":
        for member, text in made.items():
            if not isinstance(text, str):
                fields.fault(name, "invalid_value", f"{name}: {member[:60]!r} must be a string.", member)
        return {member: text for member, text in made.items() if isinstance(text, str)}
    try:
        return plain(made)
    except OverflowError:
        fields.fault(name, "number_out_of_range", f"{name} holds a number that no double can.")
        return {}


def plain(value: Any) -> Any:
    """Traits describe a customer and are no quantities: their numbers are kept as any JSON reader would see them."""
    if isinstance(value, dict):
        return {member: plain(inner) for member, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [plain(inner) for inner in cast("list[Any]", value)]
    if not isinstance(value, Decimal):
        return value
    number = float(value)
    if math.isinf(number):
        raise OverflowError
    return number


_PROPERTIES: dict[str, dict[str, Any]] = {
    "name": STRING,
    "subjects": array(STRING),
    "parent": nullable({"type": "string", "description": "The customer above this one."}),
    "currency": nullable({"type": "string", "description": "ISO 4217."}),
    "timezone": {"type": "string", "description": "IANA."},
    "email": nullable(STRING),
    "external_ids": {"type": "object", "additionalProperties": STRING},
    "traits": {"type": "object", "additionalProperties": True},
    "stage": {
        "type": "string",
        "enum": list(STAGES),
        "description": "Of its life. It goes forward; a suspended one may be active again.",
    },
}
_KEY = {"type": "string", "minLength": 1, "maxLength": 256}
_REASSIGN = {
    "type": "boolean",
    "description": "Take subjects over from another customer, from now on; history stays.",
}
_NEW = objects(
    {"key": _KEY, **_PROPERTIES, "reassign": _REASSIGN}, required=("key",), additionalProperties=False
)
_CHANGE = objects({**_PROPERTIES, "reassign": _REASSIGN}, required=(), additionalProperties=False)
_CUSTOMER = objects(
    {
        "key": _KEY,
        **_PROPERTIES,
        "merged_into": nullable(STRING),
        "created_at": TIME,
        "archived_at": nullable(TIME),
    }
)
_EXAMPLE = {"key": "acme", "name": "Acme", "subjects": ["acme-prod", "acme-test"], "currency": "USD"}


@post(
    "/v1/customers",
    guards=[require("customers:write")],
    status_code=201,
    opt={
        "operation": operation(
            summary="Create a customer",
            tag="Customers",
            body=_NEW,
            body_example=_EXAMPLE,
            answer=_CUSTOMER,
            status=201,
            creates=True,
        )
    },
)
async def create_customer(request: Connection) -> Response[dict[str, Any]]:
    """A new customer, or an archived one active again with these values."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    fields = await Fields.of_body(request, nulls=False)
    key = fields.required_text("key", characters_max=256)
    reassign = fields.boolean("reassign")
    change = read_change(fields)
    fields.finish(lambda: checked_values(change, []))
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: system.catalog.create_customer(
            who.tenant, key, change, reassign=reassign, actor=actor, now_us=now_us
        ),
    )
    await _settle(system)
    return tagged(customer_document(made), status=201, Location=f"/v1/customers/{quote(made.key, safe='')}")


@get(
    "/v1/customers",
    guards=[require("customers:read")],
    opt={
        "operation": operation(
            summary="List customers",
            tag="Customers",
            parameters=[
                *PAGE,
                query("include_archived", "Archived ones too.", schema={"type": "boolean"}),
                query("stage", "In this stage.", schema={"type": "string", "enum": list(STAGES)}),
                query("parent", "Right below this customer."),
                query("external_id", "`system:id`, as in `external_ids`.", example="stripe:cus_123"),
                query("q", "Text in the key, the name or the email, whatever its capital letters."),
            ],
            answer=listing(_CUSTOMER),
        )
    },
)
async def list_customers(request: Connection) -> dict[str, Any]:
    """In the order of their creation."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    archived = fields.boolean("include_archived")
    if who.customer is not None:
        page = fields.page((str,))
        fields.finish()
        return await _list_visible(system, who.tenant, who.customer, page, archived=archived)
    limit, cursor = fields.catalog_page()
    search = CustomerSearch(
        stage=fields.choice("stage", STAGES),
        parent=fields.text("parent"),
        external_id=_external_id(fields),
        text=fields.part("q"),
    )
    fields.finish()
    found = await in_questions(
        system,
        lambda: system.catalog.customers(who.tenant, search, archived=archived, cursor=cursor, limit=limit),
    )
    return wire.page_answer(map(customer_document, found.items), found.next_cursor)


def _external_id(fields: Fields) -> tuple[str, str] | None:
    given = fields.text("external_id")
    if given is None:
        return None
    name, colon, value = given.partition(":")
    if not (name and colon and value):
        fields.fault(
            "external_id", "invalid_value", "external_id is written system:id, such as stripe:cus_123."
        )
    return name, value


async def _settle(system: System) -> None:
    """Events that waited in quarantine for a subject that is now somebody's count when this is answered."""
    if system.quarantine is not None:
        await system.quarantine.settle()


async def _list_visible(
    system: System, tenant: str, bound: str, page: wire.Page, *, archived: bool
) -> dict[str, Any]:
    """What a bound caller sees, by key."""

    def read() -> tuple[list[Customer], str | None]:
        after = str(page.after[0]) if page.after else ""
        keys = sorted(key for key in customers.visible(system.catalog, tenant, bound) or () if key > after)
        found = [system.catalog.customer(tenant, key) for key in keys[: page.limit]]
        last = wire.make_cursor(keys[page.limit - 1]) if len(keys) > page.limit else None
        return [customer for customer in found if archived or customer.archived_at_us is None], last

    items, next_cursor = await in_questions(system, read)
    return wire.page_answer(map(customer_document, items), next_cursor)


async def _visible(request: Connection) -> tuple[System, str, Customer]:
    """The customer a path names. A caller bound to another is refused, whether there is such a customer or not."""
    system, who = wire.system_of(request), caller(request)
    key: str = request.path_params["key"]

    def read() -> Customer:
        customers.narrowed(system.catalog, who.tenant, who.customer, (key,))
        return system.catalog.customer(who.tenant, key)

    return system, who.tenant, await in_questions(system, read)


def matches(request: Connection) -> Callable[[Customer], None]:
    """What `If-Match` expects of a customer when the change is made."""
    return lambda present: check_if_match(request, customer_document(present))


@get(
    "/v1/customers/{key:str}",
    guards=[require("customers:read")],
    opt={
        "operation": operation(
            summary="Read a customer",
            tag="Customers",
            answer=_CUSTOMER,
            answers={304: {"description": "Not changed since the `ETag` in `If-None-Match`."}},
        )
    },
)
async def get_customer(request: Connection) -> Response[Any]:
    """One customer; archived ones too."""
    wire.check_parameters(request, ())
    _, _, customer = await _visible(request)
    document = customer_document(customer)
    return read_as(request, document)


@patch(
    "/v1/customers/{key:str}",
    guards=[require("customers:write")],
    opt={
        "operation": operation(
            summary="Change a customer",
            tag="Customers",
            description="The members given replace the present ones.",
            body=_CHANGE,
            body_example={"subjects": ["acme-prod"], "reassign": True},
            answer=_CUSTOMER,
            errors=(409, 412),
        )
    },
)
async def change_customer(request: Connection) -> Response[dict[str, Any]]:
    """The members given; the others stay."""
    customers.check_unbound(caller(request).customer)
    fields = await Fields.of_body(request)
    reassign = fields.boolean("reassign")
    change = read_change(fields)
    fields.finish(lambda: checked_values(change, []))
    system, tenant, present = await _visible(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: system.catalog.change_customer(
            tenant,
            present.key,
            change,
            reassign=reassign,
            expected=matches(request),
            actor=actor,
            now_us=now_us,
        ),
    )
    await _settle(system)
    return tagged(customer_document(changed))


@delete(
    "/v1/customers/{key:str}",
    guards=[require("customers:write")],
    status_code=204,
    opt={
        "operation": operation(
            summary="Archive a customer",
            tag="Customers",
            description="It leaves the lists and keeps its subjects: usage that still comes stays its own.",
            status=204,
            errors=(412,),
        )
    },
)
async def archive_customer(request: Connection) -> None:
    """Archive; idempotent."""
    customers.check_unbound(caller(request).customer)
    system, tenant, present = await _visible(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system,
        lambda: system.catalog.archive_customer(
            tenant, present.key, expected=matches(request), actor=actor, now_us=now_us
        ),
    )


@post(
    "/v1/customers/{key:str}/merge",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation(
            summary="Merge a customer into another",
            tag="Customers",
            description="From now on its subjects, its children and its external ids (in systems where the other has none) "
            "are the other's. It is archived and stands below the other. What was recorded for it stays its own: the other "
            "shows it when it is asked for with `include_children=true`. Answers the other; merging again changes nothing. "
            "`If-Match` takes the `ETag` of the customer that is merged away.",
            body=objects({"into": _KEY}, additionalProperties=False),
            body_example={"into": "acme"},
            answer=_CUSTOMER,
            errors=(409, 412),
            creates=True,
        )
    },
)
async def merge_customer(request: Connection) -> Response[dict[str, Any]]:
    """Everything of it becomes the other's."""
    system, who = wire.system_of(request), caller(request)
    customers.check_unbound(who.customer)
    fields = await Fields.of_body(request)
    into = fields.required_text("into", characters_max=256)
    fields.finish()
    key: str = request.path_params["key"]
    actor, now_us = actor_of(request), system.clock.now_us()
    joined = await in_questions(
        system,
        lambda: system.catalog.merge_customers(
            who.tenant, key, into, expected=matches(request), actor=actor, now_us=now_us
        ),
    )
    await _settle(system)
    return tagged(customer_document(joined))


ROUTES = [create_customer, list_customers, get_customer, change_customer, archive_customer, merge_customer]
