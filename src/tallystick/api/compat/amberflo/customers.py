"""`/customers`: a `customerId` is our key; what we have no member for is kept among the traits, under `aflo.`."""

from collections.abc import Mapping
from typing import Any, cast

from litestar import Request, delete, get, post, put

from tallystick.api import wire
from tallystick.api.auth import actor_of, caller, require
from tallystick.api.compat import people
from tallystick.api.compat.amberflo.shape import BASE, operation_of
from tallystick.api.compat.vendor import uuid_of
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, array, nullable, objects, query
from tallystick.catalog.customer_values import checked_values
from tallystick.catalog.interface import STAGES, Customer, CustomerChange
from tallystick.errors import NotFound
from tallystick.flows.customers import check_unbound
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

OWN = "aflo."
_OTHERS: Mapping[str, type] = {"address": dict, "description": str, "test": bool, "enabled": bool}
_KINDS = {dict: "an object", str: "a text", bool: "true or false"}
_EMPTY: Mapping[str, Any] = {"address": None, "description": None, "test": False, "enabled": True}
_STAGES = tuple(stage for stage in STAGES if stage != "suspended")

_PROPERTIES: dict[str, dict[str, Any]] = {
    "customerId": {"type": "string", "minLength": 1, "maxLength": 256},
    "customerName": STRING,
    "customerEmail": nullable(STRING),
    "enabled": {"type": "boolean"},
    "traits": {"type": "object", "additionalProperties": True},
    "address": nullable({"type": "object"}),
    "lifecycleStage": {"type": "string", "enum": [*_STAGES]},
    "description": nullable(STRING),
    "test": {"type": "boolean"},
}
_NEW = objects(_PROPERTIES, required=("customerId",))
_CUSTOMER = objects(
    {
        "id": STRING,
        **_PROPERTIES,
        "lifecycleStage": {"type": "string", "enum": [*STAGES]},
        "createTime": {"type": "integer"},
        "updateTime": {"type": "integer"},
        "deleteTime": {"type": "integer"},
    },
    required=("id", "customerId"),
)
_EXAMPLE = {"customerId": "acme", "customerName": "Acme", "traits": {"stripeId": "cus_123"}}


def customer_document(customer: Customer) -> dict[str, Any]:
    """A customer as Amberflo shows it."""
    traits = dict(customer.traits)
    others = dict(_EMPTY)
    for name, kind in _OTHERS.items():
        if isinstance(traits.get(OWN + name), kind):  # one of another kind was not made here
            others[name] = traits.pop(OWN + name)
    made: dict[str, Any] = {
        "id": uuid_of("amberflo", "customer", customer.key),
        "customerId": customer.key,
        "customerName": customer.name,
        "customerEmail": customer.email,
        "traits": traits,
        "lifecycleStage": customer.stage,
        **others,
        "createTime": customer.created_at_us // 1000,
        "updateTime": customer.created_at_us // 1000,
    }
    if customer.archived_at_us is not None:
        made.update(enabled=False, deleteTime=customer.archived_at_us // 1000)
    return made


async def _given(request: Connection) -> tuple[str, CustomerChange]:
    """The customer a body describes: what is left out is empty, as `PUT` replaces it whole."""
    fields = Fields(await wire.json_object(request), body=True)
    key = fields.required_text("customerId", characters_max=256)
    name = fields.text("customerName", characters_max=256)
    email = fields.text("customerEmail")
    stage = fields.choice("lifecycleStage", _STAGES)
    raw: Any = fields.take("traits")
    traits: dict[str, Any] = {}
    if raw is not None and not isinstance(raw, dict):
        fields.fault("traits", "invalid_value", "traits must be an object of strings.")
    elif raw:
        traits = {trait: _plain(value) for trait, value in cast("dict[str, Any]", raw).items()}
    for other, kind in _OTHERS.items():
        value: Any = fields.take(other)
        if value is not None and not isinstance(value, kind):
            fields.fault(other, "invalid_value", f"{other} must be {_KINDS[kind]}.")
        elif value is not None and value != _EMPTY[other]:
            traits[OWN + other] = _plain(value)
    change = CustomerChange(name=name or key, email=email, traits=traits)
    if stage is not None:
        change = CustomerChange(name=name or key, email=email, traits=traits, stage=stage)
    if fields.faults.found:
        fields.faults.attempt(lambda: checked_values(change, []), None)
    fields.faults.raise_any()
    return key, change


def _plain(value: Any) -> Any:
    """JSON as it is kept in traits: numbers with a point as text."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in cast("list[Any]", value)]
    return value if isinstance(value, str | bool | int | None) else str(value)


@post(
    f"{BASE}/customers",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Create a customer (Amberflo)",
            parameters=[query("autoCreateCustomerInStripe", "Ignored.")],
            body=_NEW,
            body_example=_EXAMPLE,
            answer=_CUSTOMER,
        )
    },
)
async def create_customer(request: Connection) -> dict[str, Any]:
    """One that was made for its records, and of which nothing is known yet, is filled in."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    key, change = await _given(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    made = await in_questions(
        system,
        lambda: people.saved(
            system.catalog, who.tenant, key, change, upsert=False, actor=actor, now_us=now_us
        ),
    )
    if system.quarantine is not None:
        await system.quarantine.settle()
    return customer_document(made)


@put(
    f"{BASE}/customers",
    guards=[require("customers:write")],
    opt={
        "operation": operation_of(
            summary="Replace a customer (Amberflo)", body=_NEW, body_example=_EXAMPLE, answer=_CUSTOMER
        )
    },
)
async def replace_customer(request: Connection) -> dict[str, Any]:
    """All of it."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    key, change = await _given(request)
    actor, now_us = actor_of(request), system.clock.now_us()
    return customer_document(
        await in_questions(
            system,
            lambda: system.catalog.change_customer(who.tenant, key, change, actor=actor, now_us=now_us),
        )
    )


@put(
    f"{BASE}/customers/stage",
    guards=[require("customers:write")],
    opt={
        "operation": operation_of(
            summary="Move a customer to another stage of its life (Amberflo)",
            body=objects({"customerId": STRING, "lifecycleStage": {"type": "string", "enum": [*_STAGES]}}),
            body_example={"customerId": "acme", "lifecycleStage": "active"},
            answer=_CUSTOMER,
        )
    },
)
async def move_customer(request: Connection) -> dict[str, Any]:
    """Forward only."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = Fields(await wire.json_object(request), body=True)
    key = fields.required_text("customerId", characters_max=256)
    stage = fields.choice("lifecycleStage", _STAGES)
    if stage is None and not fields.faults.found:
        fields.fault("lifecycleStage", "missing", "lifecycleStage is required.")
    fields.faults.raise_any()
    actor, now_us = actor_of(request), system.clock.now_us()
    change = CustomerChange(stage=str(stage))
    return customer_document(
        await in_questions(
            system,
            lambda: system.catalog.change_customer(who.tenant, key, change, actor=actor, now_us=now_us),
        )
    )


@get(
    f"{BASE}/customers",
    guards=[require("customers:read")],
    opt={
        "operation": operation_of(
            summary="List customers, or read one (Amberflo)",
            description="With `customerId` the one customer, or an empty object where there is none.",
            parameters=[query("customerId", "Of this one."), query("CustomerId", "The same.")],
            answer={"oneOf": [array(_CUSTOMER), {"type": "object"}]},
            answer_example=[],
        )
    },
)
async def list_customers(request: Connection) -> Any:
    """All of them in one answer: Amberflo has no pages here."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    fields = Fields.of_query(request)
    key = fields.text("customerId") or fields.text("CustomerId")
    fields.faults.raise_any()

    def read() -> Any:
        if key is None:
            return [customer_document(customer) for customer in people.every(system.catalog, who.tenant)]
        try:
            customer = system.catalog.customer(who.tenant, key)
        except NotFound:
            return {}
        return {} if customer.archived_at_us is not None else customer_document(customer)

    return await in_questions(system, read)


@get(
    f"{BASE}/customers/{{id:str}}",
    guards=[require("customers:read")],
    opt={"operation": operation_of(summary="Read a customer (Amberflo)", answer=_CUSTOMER)},
)
async def get_customer(request: Connection) -> dict[str, Any]:
    """By its `customerId`."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    key: str = request.path_params["id"]
    return customer_document(await in_questions(system, lambda: system.catalog.customer(who.tenant, key)))


@delete(
    f"{BASE}/customers/{{id:str}}",
    guards=[require("customers:write")],
    status_code=200,
    opt={"operation": operation_of(summary="Delete a customer (Amberflo)", answer=_CUSTOMER)},
)
async def delete_customer(request: Connection) -> dict[str, Any]:
    """It leaves the list; its usage stays."""
    system, who = wire.system_of(request), caller(request)
    check_unbound(who.customer)
    key: str = request.path_params["id"]
    actor, now_us = actor_of(request), system.clock.now_us()
    return customer_document(
        await in_questions(
            system, lambda: system.catalog.archive_customer(who.tenant, key, actor=actor, now_us=now_us)
        )
    )


ROUTES = [
    create_customer,
    replace_customer,
    move_customer,
    list_customers,
    get_customer,
    delete_customer,
]
