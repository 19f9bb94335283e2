"""`/v1/customers`: create, retrieve, update, delete, list.

A customer that Stripe's clients make has its `cus_…` as key and as external id `stripe`; one of ours is shown by its
external id where it has one, else by its key. What we have no member for is kept among the traits, as it was sent.
"""

import operator
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any, cast

from litestar import Request, delete, get, post
from msgspec import UNSET, UnsetType

from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat import people
from tallystick.api.compat.stripe.meter_events import customer_of
from tallystick.api.compat.stripe.parameters import SECONDS_END, Parameters
from tallystick.api.compat.stripe.search import QUERY_CHARACTERS_MAX, searched
from tallystick.api.compat.stripe.shape import (
    BASE,
    LIST_DEFAULT,
    LIST_MAX,
    LIST_PARAMETERS,
    SYSTEM,
    form,
    listing_of,
    live_mode,
    operation_of,
    paged,
    read_page,
    seconds,
)
from tallystick.api.openapi import STRING, array, nullable, objects, query
from tallystick.api.wire import system_of
from tallystick.catalog.interface import Customer, CustomerChange
from tallystick.errors import NotFound
from tallystick.flows.customers import check_unbound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

PATH = f"{BASE}/v1/customers"
_LETTERS = string.ascii_letters + string.digits
_ID_LETTERS = 14
_TEXTS = ("description", "phone", "tax_exempt", "invoice_prefix")
_MAPS = ("address", "shipping", "invoice_settings", "tax")
METADATA_MAX = 50

_COMPARED: Mapping[str, Callable[[int, int], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_INTEGER = {"type": "integer"}
CUSTOMER = objects(
    {
        "id": STRING,
        "object": STRING,
        "address": nullable({"type": "object"}),
        "balance": _INTEGER,
        "created": _INTEGER,
        "currency": nullable(STRING),
        "delinquent": {"type": "boolean"},
        "description": nullable(STRING),
        "email": nullable(STRING),
        "livemode": {"type": "boolean"},
        "metadata": {"type": "object"},
        "name": nullable(STRING),
        "phone": nullable(STRING),
        "shipping": nullable({"type": "object"}),
    }
)
_GIVEN = objects(
    {"name": STRING, "email": STRING, "description": STRING, "phone": STRING, "metadata": {"type": "object"}},
    required=(),
)


def id_of(customer: Customer) -> str:
    """The id Stripe's clients know it by."""
    return customer.external_ids.get(SYSTEM, customer.key)


def customer_document(customer: Customer, *, livemode: bool) -> dict[str, Any]:
    """A customer as Stripe shows it."""
    traits = customer.traits
    return {
        "id": id_of(customer),
        "object": "customer",
        "address": traits.get("address"),
        "balance": 0,
        "created": seconds(customer.created_at_us),
        "currency": None if customer.currency is None else customer.currency.lower(),
        "default_source": None,
        "delinquent": False,
        "description": traits.get("description"),
        "discount": None,
        "email": customer.email,
        "invoice_prefix": traits.get("invoice_prefix"),
        "livemode": livemode,
        "metadata": traits.get("metadata", {}),
        "name": None if customer.name in (customer.key, id_of(customer)) else customer.name,
        "phone": traits.get("phone"),
        "preferred_locales": [],
        "shipping": traits.get("shipping"),
        "tax_exempt": traits.get("tax_exempt", "none"),
        "test_clock": None,
    }


def _change(parameters: Parameters, present: Mapping[str, Any], key: str | None) -> CustomerChange:
    """What the parameters set; "" takes a member away. Faults are left in them."""
    name: str | UnsetType = UNSET
    if parameters.given("name"):
        name = parameters.text("name", characters_max=256) or (key or UNSET)
    email: str | UnsetType | None = UNSET
    if parameters.given("email"):
        email = parameters.text("email", characters_max=512)
    traits = dict(present)
    for member in _TEXTS:
        if parameters.given(member):
            _set(traits, member, parameters.text(member))
    for member in _MAPS:
        if parameters.given(member):
            raw: Any = parameters.take(member)
            _set(traits, member, cast("dict[str, Any]", raw) if isinstance(raw, dict) else None)
    if parameters.given("metadata"):
        merged: dict[str, str] = dict(traits.get("metadata", {}))
        given = parameters.texts("metadata")
        for member, value in (given or {}).items():
            _set(merged, member, value)
        if len(merged) > METADATA_MAX:
            parameters.fault("metadata", "too_many", f"metadata may have up to {METADATA_MAX} keys.")
        _set(traits, "metadata", merged if given else None)
    return CustomerChange(name=name, email=email, traits=traits if traits or present else UNSET)


def _set(members: dict[str, Any], name: str, value: Any) -> None:
    if value:
        members[name] = value
    else:
        members.pop(name, None)


def found(system: System, tenant: str, stripe_id: str) -> Customer:
    """The customer of an id. Synchronous. Raises NotFound."""
    try:
        return system.catalog.customer(tenant, customer_of(system.catalog, tenant, stripe_id))
    except NotFound:
        raise NotFound(f"No such customer: '{stripe_id[:120]}'", code="customer_not_found") from None


def read_created(parameters: Parameters) -> Callable[[Customer], bool]:
    """`created`, a second or bounds of it."""
    if not parameters.given("created"):
        return lambda _: True
    exact, bounds = None, None
    if isinstance(parameters.take("created"), str):
        exact = parameters.integer("created", least=0, most=SECONDS_END)
    else:
        bounds = parameters.within("created")
    read: dict[str, int | None] = {}
    if bounds is not None:
        read = {name: bounds.integer(name, least=0, most=SECONDS_END) for name in _COMPARED}

    def accepts(customer: Customer) -> bool:
        at = seconds(customer.created_at_us)
        within = all(_COMPARED[name](at, bound) for name, bound in read.items() if bound is not None)
        return within and exact in (None, at)

    return accepts


@post(
    PATH,
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Create a customer (Stripe)",
            body_types=form(_GIVEN, "name=Acme&email=billing%40acme.example"),
            body_required=False,
            answer=CUSTOMER,
            creates=True,
        )
    },
)
async def create_customer(request: Connection) -> dict[str, Any]:
    """Under an id of its own, or the one that is given."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    parameters = await Parameters.of_form(request)
    key = parameters.text("id", characters_max=256)
    if key is None:
        key = "cus_" + "".join(secrets.choice(_LETTERS) for _ in range(_ID_LETTERS))
    stated = _change(parameters, {}, key)
    parameters.finish()
    change = CustomerChange(
        name=stated.name, email=stated.email, traits=stated.traits, external_ids={SYSTEM: key}
    )
    actor, now_us = actor_of(request), system.clock.now_us()
    made = await in_questions(
        system,
        lambda: people.saved(
            system.catalog, who.tenant, key, change, upsert=False, actor=actor, now_us=now_us
        ),
    )
    if system.quarantine is not None:
        await system.quarantine.settle()
    return await _shown(request, made)


async def _shown(request: Connection, customer: Customer) -> dict[str, Any]:
    system, who = system_of(request), caller(request)
    livemode = await in_questions(system, lambda: live_mode(system, who.tenant))
    if customer.archived_at_us is not None:
        return {"id": id_of(customer), "object": "customer", "deleted": True}
    return customer_document(customer, livemode=livemode)


@get(
    PATH,
    guards=[require("customers:read")],
    opt={
        "operation": operation_of(
            summary="List customers (Stripe)",
            parameters=[
                *LIST_PARAMETERS,
                query("email", "With this address."),
                query("created", "Made at this second, or `created[gte]` and the like."),
            ],
            answer=listing_of(CUSTOMER),
        )
    },
)
async def list_customers(request: Connection) -> dict[str, Any]:
    """Newest first."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    parameters = Parameters.of_query(request)
    page = read_page(parameters)
    email = parameters.text("email", characters_max=512)
    created = read_created(parameters)
    parameters.finish()
    customers, livemode = await in_questions(
        system, lambda: (people.every(system.catalog, who.tenant), live_mode(system, who.tenant))
    )
    shown = [one for one in reversed(customers) if (email is None or one.email == email) and created(one)]
    listed = paged(shown, page, "/v1/customers", id_of=id_of)
    listed["data"] = [customer_document(one, livemode=livemode) for one in listed["data"]]
    return listed


@get(
    f"{PATH}/search",
    guards=[require("customers:read")],
    opt={
        "operation": operation_of(
            summary="Search customers (Stripe)",
            parameters=[
                query("query", "`email:'a@b.example' AND metadata['team']:'red'`."),
                query("limit", "1 to 100, 10 by default.", schema={"type": "integer"}),
                query("page", "`next_page` of the answer before."),
            ],
            answer=objects(
                {
                    "object": STRING,
                    "url": STRING,
                    "has_more": {"type": "boolean"},
                    "next_page": nullable(STRING),
                    "data": array(CUSTOMER),
                }
            ),
        )
    },
)
async def search_customers(request: Connection) -> dict[str, Any]:
    """Newest first, in Stripe's language for searches (search.py)."""
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    parameters = Parameters.of_query(request)
    limit = parameters.integer("limit", least=1, most=LIST_MAX) or LIST_DEFAULT
    after = parameters.text("page", characters_max=512)
    text = parameters.text("query", required=True, characters_max=QUERY_CHARACTERS_MAX)
    accepts = searched(parameters, text or "")
    parameters.finish()
    customers, livemode = await in_questions(
        system, lambda: (people.every(system.catalog, who.tenant), live_mode(system, who.tenant))
    )
    documents = (customer_document(one, livemode=livemode) for one in reversed(customers))
    page = (limit, after, None)
    listed = paged(
        list(filter(accepts, documents)), page, "/v1/customers/search", id_of=lambda one: one["id"]
    )
    more = listed["has_more"]
    return {**listed, "object": "search_result", "next_page": listed["data"][-1]["id"] if more else None}


async def _customer(request: Connection) -> Customer:
    system, who = system_of(request), caller(request)
    check_unbound(who.customer)
    stripe_id: str = request.path_params["id"]
    return await in_questions(system, lambda: found(system, who.tenant, stripe_id))


@get(
    f"{PATH}/{{id:str}}",
    guards=[require("customers:read")],
    opt={"operation": operation_of(summary="Retrieve a customer (Stripe)", answer={"type": "object"})},
)
async def get_customer(request: Connection) -> dict[str, Any]:
    """A deleted one says so."""
    Parameters.of_query(request).finish()
    return await _shown(request, await _customer(request))


@post(
    f"{PATH}/{{id:str}}",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Update a customer (Stripe)",
            body_types=form(_GIVEN, "name=Acme"),
            body_required=False,
            answer={"type": "object"},
        )
    },
)
async def change_customer(request: Connection) -> dict[str, Any]:
    """The members given; the others stay."""
    system, who = system_of(request), caller(request)
    parameters = await Parameters.of_form(request)
    present = await _customer(request)
    change = _change(parameters, present.traits, present.key)
    parameters.finish()
    actor, now_us = actor_of(request), system.clock.now_us()
    changed = await in_questions(
        system,
        lambda: system.catalog.change_customer(who.tenant, present.key, change, actor=actor, now_us=now_us),
    )
    return await _shown(request, changed)


@delete(
    f"{PATH}/{{id:str}}",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Delete a customer (Stripe)",
            answer=objects({"id": STRING, "object": STRING, "deleted": {"type": "boolean"}}),
        )
    },
)
async def delete_customer(request: Connection) -> dict[str, Any]:
    """It leaves the list; its usage stays."""
    system, who = system_of(request), caller(request)
    present = await _customer(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    archived = await in_questions(
        system,
        lambda: system.catalog.archive_customer(who.tenant, present.key, actor=actor, now_us=now_us),
    )
    return await _shown(request, archived)


ROUTES = [create_customer, list_customers, search_customers, get_customer, change_customer, delete_customer]
