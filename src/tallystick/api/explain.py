"""`GET /v1/meters/{key}/explain` ("why is my usage 0?") and `…/dimensions/{name}/values`."""

from typing import Any

from litestar import Request, Response, get

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import PAGE, POSITION, STRING, TIME, array, nullable, objects, operation, query
from tallystick.api.search import contribution_document, encoded
from tallystick.flows.customers import narrowed
from tallystick.flows.event_document import event_document
from tallystick.flows.explain import Explanation, Sample, explain
from tallystick.flows.lookup import Contribution
from tallystick.flows.overview import owner_values
from tallystick.flows.position import token_of
from tallystick.flows.usage import DAYS_30_US, GROUPS_BESIDE_DIMENSIONS, dimension_values, in_questions
from tallystick.metering.meter import Meter

Connection = Request[Any, Any, Any]

PREFIX_CHARACTERS_MAX = 256


def explanation_document(told: Explanation) -> dict[str, Any]:
    """An explanation on the wire."""
    return {
        "meter": told.meter.key,
        "version": told.meter.version,
        "event_type": told.meter.event_type,
        "filter": told.meter.filter,
        "customer": told.customer,
        "from": wire.time_text(told.from_us),
        "to": wire.time_text(told.to_us),
        "seen": told.seen,
        "scanned": told.scanned,
        "complete": told.complete,
        "matched": told.matched,
        "filtered_out": told.filtered_out,
        "invalid": told.invalid,
        "reasons": [
            {
                "reason": str(reason.reason),
                "count": reason.count,
                "samples": [_sample(told.meter, one) for one in reason.samples],
            }
            for reason in sorted(told.reasons.values(), key=lambda reason: (-reason.count, reason.reason))
        ],
        "samples": [_sample(told.meter, one) for one in told.matched_samples],
        "hints": [{"code": hint.code, "detail": hint.detail} for hint in told.hints],
        "position": told.position,
    }


def _sample(meter: Meter, sample: Sample) -> dict[str, Any]:
    return event_document(sample.event) | {
        "reading": contribution_document(Contribution(meter, sample.reading))
    }


_COUNT = {"type": "integer"}
_SAMPLES = array(
    objects({"id": STRING, "source": STRING, "reading": {"type": "object"}}),
    description="At most 5, the latest: events as in search, each with its `reading`.",
)
_EXPLANATION = objects(
    {
        "meter": STRING,
        "version": _COUNT,
        "event_type": STRING,
        "filter": nullable(STRING),
        "customer": nullable(STRING),
        "from": TIME,
        "to": TIME,
        "seen": {**_COUNT, "description": "Events of the meter's type in the range, of the customer."},
        "scanned": _COUNT,
        "complete": {"type": "boolean", "description": "Whether all of them were read."},
        "matched": _COUNT,
        "filtered_out": _COUNT,
        "invalid": _COUNT,
        "reasons": array(objects({"reason": STRING, "count": _COUNT, "samples": _SAMPLES})),
        "samples": _SAMPLES,
        "hints": array(objects({"code": STRING, "detail": STRING})),
        "position": POSITION,
    }
)
_RANGE = (
    query("from", "Begin of the range, inclusive. Default: 30 days before `to`.", schema=TIME),
    query("to", "End of the range, exclusive. Default: now.", schema=TIME),
)


@get(
    "/v1/meters/{key:str}/explain",
    guards=[require("events:read")],
    opt={
        "operation": operation(
            summary="Why is my usage 0?",
            tag="Usage",
            description="What became of the events of the meter's type, by reason, with samples, and what to look at next.",
            parameters=[query("customer", "Of this customer."), *_RANGE],
            answer=_EXPLANATION,
        )
    },
)
async def explain_meter(request: Connection) -> Response[bytes]:
    """Seen, matched, filtered out, invalid."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    customer = fields.text("customer")
    from_us, to_us = _range(fields, now_us=system.clock.now_us())
    fields.finish()
    told = await explain(
        system,
        who.tenant,
        request.path_params["key"],
        customer=customer,
        from_us=from_us,
        to_us=to_us,
        bound=who.customer,
    )
    return encoded(explanation_document(told))


def _range(fields: Fields, *, now_us: int) -> tuple[int, int]:
    """`from` and `to` with their defaults; a range that is empty is a fault."""
    given_from_us, given_to_us = fields.time_us("from"), fields.time_us("to")
    to_us = now_us if given_to_us is None else given_to_us
    from_us = to_us - DAYS_30_US if given_from_us is None else given_from_us
    if from_us >= to_us:
        name = "from" if given_to_us is None else "to"
        fields.fault(name, "empty_range", "The range [from, to) is empty: from must be earlier than to.")
    return from_us, to_us


VALUES_SHOWN_MAX = 8_000
"""A list of values goes no further than the page that begins here: `prefix` finds what is rarer."""


@get(
    "/v1/meters/{key:str}/dimensions/{name:str}/values",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Values of a dimension",
            tag="Usage",
            description="Most frequent first; null stands for readings without the dimension. `customer` and `subject` are "
            "names here, too.",
            parameters=[
                query("prefix", "Only values that begin so."),
                *PAGE,
                query("customer", "Of these customers.", repeated=True),
                *_RANGE,
            ],
            answer=objects(
                {
                    "items": array(objects({"value": nullable(STRING), "readings": _COUNT})),
                    "next_cursor": nullable(STRING),
                    "from": TIME,
                    "to": TIME,
                    "position": POSITION,
                }
            ),
        )
    },
)
async def list_dimension_values(request: Connection) -> dict[str, Any]:
    """Distinct values with their number of readings."""
    system, who = wire.system_of(request), caller(request)
    key, name = request.path_params["key"], request.path_params["name"]
    fields = Fields.of_query(request)
    prefix = fields.part("prefix", characters_max=PREFIX_CHARACTERS_MAX) or ""
    page = fields.page((int,))
    # The most frequent come first, so a page begins after so many, and not after a value.
    begin = int(page.after[0]) if page.after else 0
    if not 0 <= begin <= VALUES_SHOWN_MAX:
        fields.fault("cursor", "invalid_cursor", "This is no cursor of this list.")
    end = begin + page.limit
    customers = fields.texts("customer")
    from_us, to_us = _range(fields, now_us=system.clock.now_us())
    fields.close()
    meter = await in_questions(system, lambda: system.catalog.meter(who.tenant, key))
    beside = name in GROUPS_BESIDE_DIMENSIONS
    if not beside and meter.slot(name) is None:
        declared = ", ".join([*GROUPS_BESIDE_DIMENSIONS, *(dimension.name for dimension in meter.dimensions)])
        fields.fault(
            "name", "unknown_dimension", f"Meter {key!r} has no dimension {name[:60]!r}; it has {declared}."
        )
    fields.faults.raise_any()
    seen = await in_questions(system, lambda: narrowed(system.catalog, who.tenant, who.customer, customers))
    position = system.recorder.position
    values = await (owner_values if beside else dimension_values)(
        system,
        meter,
        name,
        customers=seen,
        from_us=from_us,
        to_us=to_us,
        prefix=prefix,
        limit=end + 1,
    )
    return {
        "items": [{"value": value, "readings": readings} for value, readings in values[begin:end]],
        "next_cursor": wire.make_cursor(end) if len(values) > end and end <= VALUES_SHOWN_MAX else None,
        "from": wire.time_text(from_us),
        "to": wire.time_text(to_us),
        "position": token_of(position),
    }


ROUTES = [explain_meter, list_dimension_values]
