"""`/api/v1/subjects`: whom events are about. One that no customer claims is a customer of its own name here."""

from dataclasses import replace
from typing import Any, cast

from litestar import Request, delete, get, post

from tallystick.api import wire
from tallystick.api.access import administered
from tallystick.api.auth import actor_of, require
from tallystick.api.compat import people
from tallystick.api.compat.openmeter.shape import BASE, operation_of, time_text
from tallystick.api.compat.vendor import ulid_of
from tallystick.api.fields import Fields
from tallystick.api.openapi import STRING, TIME, array, nullable, objects
from tallystick.catalog.interface import Customer, CustomerChange
from tallystick.errors import NotFound
from tallystick.flows.system import System
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

UPSERTS_MAX = 1000
_SUBJECT = objects(
    {
        "id": STRING,
        "key": STRING,
        "displayName": nullable(STRING),
        "metadata": nullable({"type": "object"}),
        "stripeCustomerId": nullable(STRING),
        "createdAt": TIME,
        "updatedAt": TIME,
    },
    required=("id", "key", "createdAt", "updatedAt"),
)
_UPSERT = objects(
    {
        "key": STRING,
        "displayName": nullable(STRING),
        "metadata": nullable({"type": "object"}),
        "stripeCustomerId": nullable(STRING),
    },
    required=("key",),
)


def _document(tenant: str, subject: str, owner: Customer) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": ulid_of("subject", tenant, subject),
        "key": subject,
        "displayName": owner.name if owner.key == subject and owner.name != subject else None,
        "metadata": owner.traits.get("metadata") if owner.key == subject else None,
        "stripeCustomerId": owner.external_ids.get("stripe"),
        "createdAt": time_text(owner.created_at_us),
        "updatedAt": time_text(owner.created_at_us),
    }
    return {name: value for name, value in made.items() if value is not None}


def _owners(system: System, tenant: str) -> dict[str, Customer]:
    """Subject → its customer, archived ones left out. Synchronous."""
    customers = {one.key: one for one in people.every(system.catalog, tenant)}
    owned = system.catalog.subject_map(tenant)
    return {subject: customers[owner] for subject, owner in sorted(owned.items()) if owner in customers}


def _found(system: System, tenant: str, id_or_key: str) -> tuple[str, Customer]:
    owners = _owners(system, tenant)
    for subject, owner in owners.items():
        if id_or_key in (subject, ulid_of("subject", tenant, subject)):
            return subject, owner
    raise NotFound(f"not found error: subject {id_or_key[:128]}", code="customer_not_found")


@get(
    f"{BASE}/v1/subjects",
    guards=[require("customers:read")],
    opt={"operation": operation_of(summary="List subjects (OpenMeter)", answer=array(_SUBJECT))},
)
async def list_subjects(request: Connection) -> list[dict[str, Any]]:
    """All of them."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    owners = await in_questions(system, lambda: _owners(system, tenant))
    return [_document(tenant, subject, owner) for subject, owner in owners.items()]


@post(
    f"{BASE}/v1/subjects",
    guards=[require("customers:write")],
    status_code=200,
    opt={
        "operation": operation_of(
            summary="Upsert subjects (OpenMeter)",
            body=array(_UPSERT, maxItems=UPSERTS_MAX),
            body_example=[{"key": "acme", "displayName": "Acme"}],
            answer=array(_SUBJECT),
            errors=(409,),
        )
    },
)
async def upsert_subjects(request: Connection) -> list[dict[str, Any]]:
    """Make or change them."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    given = await wire.json_body(request)
    if not isinstance(given, list):
        raise wire.invalid("", "invalid_value", "The body must be an array of subjects.")
    faults = wire.Faults()
    wanted: list[tuple[str, CustomerChange]] = []
    for index, one in enumerate(cast("list[Any]", given)[:UPSERTS_MAX]):
        if isinstance(one, dict):
            wanted.append(
                _read(Fields(cast("dict[str, Any]", one), body=True, place=(str(index),), faults=faults))
            )
        else:
            faults.add(f"/{index}", "invalid_value", "A subject is an object.")
    if len(cast("list[Any]", given)) > UPSERTS_MAX:
        faults.add("", "too_many", f"At most {UPSERTS_MAX} subjects at once.")
    faults.raise_any()
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for key, stated in wanted:
            change = stated
            owner = system.catalog.resolve_subjects(tenant, (key,)).get(key, key)
            if owner != key and system.catalog.customer(tenant, owner).archived_at_us is not None:
                # A customer that is gone has none any more.
                change, owner = replace(change, subjects=(key,)), key
            if owner == key:
                customer = people.saved(
                    system.catalog, tenant, key, change, upsert=True, actor=actor, now_us=now_us
                )
            else:
                customer = system.catalog.customer(tenant, owner)
            made.append(_document(tenant, key, customer))
        return made

    return await in_questions(system, work)


def _read(fields: Fields) -> tuple[str, CustomerChange]:
    key = fields.required_text("key", characters_max=256)
    name = fields.text("displayName", characters_max=256)
    metadata: Any = fields.take("metadata")
    stripe = fields.text("stripeCustomerId", characters_max=256)
    fields.know("currentPeriodStart", "currentPeriodEnd")
    if not isinstance(metadata, dict | None):
        fields.fault("metadata", "invalid_value", "metadata must be an object.")
        metadata = None
    fields.close()
    return key, CustomerChange(
        name=name or key,
        traits={} if metadata is None else {"metadata": metadata},
        external_ids={} if stripe is None else {"stripe": stripe},
    )


@get(
    f"{BASE}/v1/subjects/{{id_or_key:str}}",
    guards=[require("customers:read")],
    opt={"operation": operation_of(summary="Read a subject (OpenMeter)", answer=_SUBJECT)},
)
async def get_subject(request: Connection) -> dict[str, Any]:
    """By its id or key."""
    system, tenant = administered(request)
    wire.check_parameters(request, ())
    subject, owner = await in_questions(
        system, lambda: _found(system, tenant, request.path_params["id_or_key"])
    )
    return _document(tenant, subject, owner)


@delete(
    f"{BASE}/v1/subjects/{{id_or_key:str}}",
    guards=[require("customers:write")],
    status_code=204,
    opt={
        "operation": operation_of(
            summary="Delete a subject (OpenMeter)",
            description="One that is a customer's is only taken from it; its usage stays.",
            status=204,
        )
    },
)
async def delete_subject(request: Connection) -> None:
    """Its usage stays where it is."""
    system, tenant = administered(request)
    actor, now_us = actor_of(request), system.clock.now_us()

    def work() -> None:
        subject, owner = _found(system, tenant, request.path_params["id_or_key"])
        if owner.key == subject:
            system.catalog.archive_customer(tenant, owner.key, actor=actor, now_us=now_us)
            return
        left = tuple(one for one in owner.subjects if one != subject)
        system.catalog.change_customer(
            tenant, owner.key, CustomerChange(subjects=left), actor=actor, now_us=now_us
        )

    await in_questions(system, work)


ROUTES = [list_subjects, upsert_subjects, get_subject, delete_subject]
