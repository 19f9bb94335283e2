"""`/api/v1/customers` and `/api/v1/subjects`.

A customer's key is ours. A subject is a customer of its own name until a customer claims it, as OpenMeter's subjects are
there before their customers.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any, cast

from litestar import Request, Response, delete, get, post, put

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat import people
from tallystick.api.compat.openmeter.shape import BASE, operation_of, time_text
from tallystick.api.compat.vendor import ulid_of
from tallystick.api.customers import SUBJECTS_MAX
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects, query
from tallystick.catalog.interface import Customer, CustomerChange
from tallystick.errors import NotFound
from tallystick.flows import customers as flow
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")
_TRAITS = ("description", "metadata", "billingAddress")


def id_of(customer: Customer) -> str:
    """Its ULID."""
    return ulid_of("customer", customer.tenant, customer.key)


async def customers_of(system: System, tenant: str, names: Sequence[str]) -> list[Customer]:
    """The customers of these ids or keys. Raises NotFound (customer_not_found)."""
    return await in_questions(system, lambda: [_found(system, tenant, name) for name in names])


def _found(system: System, tenant: str, id_or_key: str) -> Customer:
    found: Customer | None = None
    try:
        found = system.catalog.customer(tenant, id_or_key)
    except NotFound:
        if _ULID.match(id_or_key):
            found = next(
                (one for one in people.every(system.catalog, tenant) if id_of(one) == id_or_key), None
            )
    if found is None or found.archived_at_us is not None:
        raise NotFound(f"not found error: customer {id_or_key[:128]}", code="customer_not_found")
    return found


def document(customer: Customer) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": id_of(customer),
        "key": customer.key,
        "name": customer.name,
        **{name: customer.traits.get(name) for name in _TRAITS},
        "primaryEmail": customer.email,
        "currency": customer.currency,
        "usageAttribution": {"subjectKeys": list(customer.subjects)} if customer.subjects else None,
        "createdAt": time_text(customer.created_at_us),
        "updatedAt": time_text(customer.created_at_us),
        "deletedAt": None if customer.archived_at_us is None else time_text(customer.archived_at_us),
    }
    return {name: value for name, value in made.items() if value is not None}


def _change(fields: Fields) -> tuple[str | None, CustomerChange]:
    """The key given, and what a body says of a customer."""
    key = fields.text("key", characters_max=256)
    name = fields.required_text("name", characters_max=256)
    attribution: Any = fields.take("usageAttribution")
    subjects: tuple[str, ...] = ()
    if isinstance(attribution, dict):
        within = fields.within(cast("dict[str, Any]", attribution), "usageAttribution")
        subjects = within.texts("subjectKeys", items_max=SUBJECTS_MAX) or ()
    elif attribution is not None:
        fields.fault("usageAttribution", "invalid_value", "usageAttribution must be an object.")
    traits: dict[str, Any] = {}
    for trait in _TRAITS:
        value = fields.take(trait)
        if value is not None:
            traits[trait] = value
    return key, CustomerChange(
        name=name,
        subjects=subjects,
        email=fields.text("primaryEmail"),
        currency=fields.text("currency"),
        traits=traits,
    )


_PROPERTIES: dict[str, dict[str, Any]] = {
    "key": nullable(STRING),
    "name": STRING,
    "description": nullable(STRING),
    "metadata": nullable({"type": "object"}),
    "usageAttribution": nullable(objects({"subjectKeys": array(STRING)})),
    "primaryEmail": nullable(STRING),
    "currency": nullable(STRING),
    "billingAddress": nullable({"type": "object"}),
}
_NEW = objects(_PROPERTIES, required=("name",))
_CUSTOMER = objects(
    {"id": STRING, **_PROPERTIES, "createdAt": TIME, "updatedAt": TIME, "deletedAt": TIME},
    required=("id", "name", "createdAt", "updatedAt"),
)
_EXAMPLE = {"key": "acme", "name": "Acme", "usageAttribution": {"subjectKeys": ["acme-prod"]}}


async def _settle(system: System) -> None:
    """What waited in quarantine for a subject counts when this is answered."""
    if system.quarantine is not None:
        await system.quarantine.settle()


@post(
    f"{BASE}/v1/customers",
    guards=[require("customers:write")],
    status_code=201,
    opt={
        "operation": operation_of(
            summary="Create a customer (OpenMeter)",
            body=_NEW,
            body_example=_EXAMPLE,
            answer=_CUSTOMER,
            status=201,
            errors=(409,),
        )
    },
)
async def create_customer(request: Connection) -> Response[dict[str, Any]]:
    """A new customer. Without a key: one of its only subject's name, or one of our making."""
    system, tenant = administered(request)
    fields = await Fields.of_body(request, nulls=False)
    key, change = _change(fields)
    fields.finish()
    subjects = cast("tuple[str, ...]", change.subjects)
    chosen = key or (subjects[0] if len(subjects) == 1 else f"cus_{secrets.token_hex(8)}")
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: people.saved(
            system.catalog, tenant, chosen, change, upsert=False, actor=actor, now_us=now_us
        ),
    )
    await _settle(system)
    return Response(document(made), status_code=201)


@get(
    f"{BASE}/v1/customers",
    guards=[require("customers:read")],
    opt={
        "operation": operation_of(
            summary="List customers (OpenMeter)",
            parameters=[
                query("page", "From 1.", schema={"type": "integer", "minimum": 1}),
                query("pageSize", "At most 1000.", schema={"type": "integer", "minimum": 1, "maximum": 1000}),
                query("order", "ASC or DESC."),
                query("orderBy", "id, name or createdAt."),
                query("key", "Part of the key."),
                query("name", "Part of the name."),
                query("primaryEmail", "Part of the address."),
                query("subject", "Part of a subject's key."),
                query("includeDeleted", "Ignored.", schema={"type": "boolean"}),
                query("expand", "Ignored.", repeated=True),
            ],
            answer=objects(
                {
                    "totalCount": {"type": "integer"},
                    "page": {"type": "integer"},
                    "pageSize": {"type": "integer"},
                    "items": array(_CUSTOMER),
                }
            ),
        )
    },
)
async def list_customers(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    fields.know("expand")
    fields.boolean("includeDeleted")
    page = fields.integer("page", least=1, most=1_000_000) or 1
    size = fields.integer("pageSize", least=1, most=1000) or 100
    descending = fields.choice("order", ("ASC", "DESC")) == "DESC"
    order = fields.choice("orderBy", ("id", "name", "createdAt")) or "name"
    wanted = {name: fields.part(name) for name in ("key", "name", "primaryEmail", "subject")}
    fields.finish()

    def work() -> list[Customer]:
        seen = flow.visible(system.catalog, who.tenant, who.customer)
        found = people.every(system.catalog, who.tenant)
        return [one for one in found if (seen is None or one.key in seen) and _matches(one, wanted)]

    found = await in_questions(system, work)
    orders: dict[str, Callable[[Customer], Any]] = {
        "id": id_of,
        "name": lambda one: one.name,
        "createdAt": lambda one: one.created_at_us,
    }
    found.sort(key=orders[order], reverse=descending)
    items = [document(one) for one in found[(page - 1) * size : page * size]]
    return {"totalCount": len(found), "page": page, "pageSize": size, "items": items}


def _matches(customer: Customer, wanted: dict[str, str | None]) -> bool:
    texts = {
        "key": [customer.key],
        "name": [customer.name],
        "primaryEmail": [customer.email or ""],
        "subject": list(customer.subjects),
    }
    return all(
        part is None or any(part.casefold() in text.casefold() for text in texts[name])
        for name, part in wanted.items()
    )


async def _visible(request: Connection) -> tuple[System, str, Customer]:
    system, who = wire.system_of(request), caller(request)
    name: str = request.path_params["id_or_key"]

    def work() -> Customer:
        if who.customer is None:
            return _found(system, who.tenant, name)
        # Whether it exists does not matter, so that a refusal tells nothing.
        seen = flow.visible(system.catalog, who.tenant, who.customer) or ()
        known = {ulid_of("customer", who.tenant, key): key for key in seen}
        flow.narrowed(system.catalog, who.tenant, who.customer, (known.get(name, name),))
        return _found(system, who.tenant, name)

    return system, who.tenant, await in_questions(system, work)


@get(
    f"{BASE}/v1/customers/{{id_or_key:str}}",
    guards=[require("customers:read")],
    opt={
        "operation": operation_of(
            summary="Read a customer (OpenMeter)",
            parameters=[query("expand", "Ignored.", repeated=True)],
            answer=_CUSTOMER,
        )
    },
)
async def get_customer(request: Connection) -> dict[str, Any]:
    """By its id or key."""
    wire.check_parameters(request, ("expand",))
    _, _, customer = await _visible(request)
    return document(customer)


@put(
    f"{BASE}/v1/customers/{{id_or_key:str}}",
    guards=[require("customers:write")],
    opt={
        "operation": operation_of(
            summary="Replace a customer (OpenMeter)",
            body=_NEW,
            body_example=_EXAMPLE,
            answer=_CUSTOMER,
            errors=(409,),
        )
    },
)
async def replace_customer(request: Connection) -> dict[str, Any]:
    """Everything but its key."""
    administered(request)
    fields = await Fields.of_body(request, nulls=False)
    key, change = _change(fields)
    fields.finish()
    system, tenant, present = await _visible(request)
    if key not in (None, present.key):
        raise wire.invalid("/key", "key_immutable", "The key of a customer cannot be changed.")
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: people.saved(
            system.catalog, tenant, present.key, change, upsert=True, actor=actor, now_us=now_us
        ),
    )
    await _settle(system)
    return document(changed)


@delete(
    f"{BASE}/v1/customers/{{id_or_key:str}}",
    guards=[require("customers:write")],
    status_code=204,
    opt={
        "operation": operation_of(
            summary="Delete a customer (OpenMeter)", description="It is archived.", status=204
        )
    },
)
async def delete_customer(request: Connection) -> None:
    """Archive it."""
    administered(request)
    system, tenant, customer = await _visible(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system, lambda: system.catalog.archive_customer(tenant, customer.key, actor=actor, now_us=now_us)
    )


ROUTES = [create_customer, list_customers, get_customer, replace_customer, delete_customer]
