"""`/customers`: upserted, listed, read, archived. What Lago keeps of one beyond what we do stands in its traits."""

import contextlib
from typing import Any

from litestar import Request, delete, get, post

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat import people
from tallystick.api.compat.lago.shape import (
    BASE,
    PAGES,
    lago_id,
    listing,
    operation_of,
    page_of,
    paged,
    root_of,
    time_text,
)
from tallystick.api.customers import plain
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, nullable, objects, query
from tallystick.catalog.interface import Customer, CustomerChange
from tallystick.errors import NotFound
from tallystick.flows import customers as flow
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

TRAIT = "lago"
_SHOWN = (
    "firstname",
    "lastname",
    "customer_type",
    "address_line1",
    "address_line2",
    "city",
    "zipcode",
    "state",
    "country",
    "legal_name",
    "legal_number",
    "logo_url",
    "phone",
    "tax_identification_number",
    "url",
    "net_payment_term",
    "finalize_zero_amount_invoice",
    "shipping_address",
    "billing_configuration",
)


def document(customer: Customer) -> dict[str, Any]:
    """A customer as Lago shows it."""
    more = customer.traits.get(TRAIT, {})
    return {
        "lago_id": lago_id("customer", customer.tenant, customer.key),
        "external_id": customer.key,
        "name": customer.name,
        "email": customer.email,
        "currency": customer.currency,
        "timezone": more.get("timezone"),
        "applicable_timezone": customer.timezone,
        "created_at": time_text(customer.created_at_us),
        "updated_at": time_text(customer.created_at_us),
        **{name: more.get(name) for name in _SHOWN},
        "metadata": more.get("metadata", []),
    }


_MEMBERS: dict[str, dict[str, Any]] = {
    "external_id": STRING,
    "name": nullable(STRING),
    "email": nullable(STRING),
    "currency": nullable(STRING),
    "timezone": nullable(STRING),
}
_CUSTOMER = objects(
    {"lago_id": STRING, **_MEMBERS, "applicable_timezone": STRING, "created_at": TIME, "updated_at": TIME}
)
_ONE = objects({"customer": _CUSTOMER})


@post(
    f"{BASE}/customers",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Upsert a customer (Lago)",
            body=objects({"customer": objects(_MEMBERS, required=("external_id",))}),
            body_example={"customer": {"external_id": "acme", "name": "Acme", "currency": "USD"}},
            answer=_ONE,
        )
    },
)
async def upsert_customer(request: Connection) -> dict[str, Any]:
    """Make it, or change the members given."""
    system, tenant = administered(request)
    fields = await root_of(request, "customer")
    if fields.take("external_id") == "":
        raise wire.invalid("external_id", "missing", "external_id is required.")
    key = fields.required_text("external_id", characters_max=256)
    timezone = fields.text("timezone", characters_max=64)
    more = {name: plain(fields.take(name)) for name in (*_SHOWN, "metadata") if name in fields.names()}
    given: dict[str, Any] = {
        "name": fields.text("name", characters_max=256),
        "email": fields.text("email"),
        "currency": fields.text("currency"),
        "timezone": timezone,
    }
    fields.faults.raise_any()
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> Customer:
        kept = {} if timezone is None else {"timezone": timezone}
        traits: dict[str, Any] = {}
        with contextlib.suppress(NotFound):
            traits = dict(system.catalog.customer(tenant, key).traits)
        noted = {**traits.get(TRAIT, {}), **kept, **more}
        members = {name: value for name, value in given.items() if value is not None}
        if noted:
            members["traits"] = {**traits, TRAIT: noted}
        change = CustomerChange(**members)
        return people.saved(system.catalog, tenant, key, change, upsert=True, actor=actor, now_us=now_us)

    return {"customer": document(await in_questions(system, work))}


@get(
    f"{BASE}/customers",
    guards=[require("customers:read")],
    opt={
        "operation": operation_of(
            summary="List customers (Lago)",
            parameters=[
                query("search_term", "Part of the external id, the name or the address."),
                query("currencies[]", "Of these currencies.", repeated=True),
                *PAGES,
            ],
            answer=listing("customers", _CUSTOMER),
        )
    },
)
async def list_customers(request: Connection) -> dict[str, Any]:
    """A page of them."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    page, size = page_of(fields)
    part = (fields.part("search_term") or "").casefold()
    currencies = fields.texts("currencies[]") or ()
    fields.faults.raise_any()

    def shown(one: Customer) -> bool:
        texts = (one.key, one.name, one.email or "")
        return (not currencies or one.currency in currencies) and any(
            part in text.casefold() for text in texts
        )

    def work() -> list[Customer]:
        seen = flow.visible(system.catalog, who.tenant, who.customer)
        found = people.every(system.catalog, who.tenant)
        return [one for one in found if (seen is None or one.key in seen) and shown(one)]

    return paged("customers", [document(one) for one in await in_questions(system, work)], page, size)


async def visible(request: Connection, key: str) -> Customer:
    """A customer that the caller may see. Raises NotFound (customer_not_found) and Forbidden."""
    system, who = wire.system_of(request), caller(request)

    def work() -> Customer:
        flow.narrowed(system.catalog, who.tenant, who.customer, (key,))
        return present(system, who.tenant, key)

    return await in_questions(system, work)


def present(system: System, tenant: str, key: str) -> Customer:
    """One that is not archived. Synchronous."""
    found = system.catalog.customer(tenant, key)
    if found.archived_at_us is not None:
        raise NotFound(f"There is no customer {key[:128]!r}.", code="customer_not_found")
    return found


@get(
    f"{BASE}/customers/{{external_id:str}}",
    guards=[require("customers:read")],
    opt={"operation": operation_of(summary="Read a customer (Lago)", answer=_ONE)},
)
async def get_customer(request: Connection) -> dict[str, Any]:
    """By its external id."""
    return {"customer": document(await visible(request, request.path_params["external_id"]))}


@delete(
    f"{BASE}/customers/{{external_id:str}}",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Delete a customer (Lago)", description="It is archived.", answer=_ONE
        )
    },
)
async def delete_customer(request: Connection) -> dict[str, Any]:
    """Archive it, and show it once more."""
    system, tenant = administered(request)
    customer = await visible(request, request.path_params["external_id"])
    actor, now_us = actor_of(request), system.clock.now_us()
    await in_questions(
        system, lambda: system.catalog.archive_customer(tenant, customer.key, actor=actor, now_us=now_us)
    )
    return {"customer": document(customer)}


ROUTES = [upsert_customer, list_customers, get_customer, delete_customer]
