"""Questions that are asked together have the answers each has alone, and invoices made together are those made one by one."""

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.questions.live import NOW_US, Live, Tenant

from tallystick.billing.due import Question
from tallystick.flows.billing.family import families
from tallystick.flows.billing.gather import Wanted, gather

METERS: dict[str, dict[str, Any]] = {
    one: {"aggregation": one, "value": "$.n"}
    for one in ("sum", "max", "latest", "unique_count", "time_weighted")
} | {"count": {"aggregation": "count"}}
MODELS = ["a", "b", "c", None]
BEGIN_US = NOW_US - 5 * 86_400_000_000
_CUSTOMERS = [f"c{number}" for number in range(4)]


def _condition(values: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        st.sampled_from(values).map(lambda value: {"eq": value}),
        st.lists(st.sampled_from(values), min_size=1, max_size=3).map(lambda some: {"in": some}),
        st.sampled_from(values).map(lambda value: {"ne": value}),
        st.just({"exists": True}),
        st.tuples(st.sampled_from(values), st.sampled_from(values)).map(
            lambda two: {"in": sorted({"a", two[0]}), "eq": two[1]}
        ),
    )


_NAMED = st.sets(st.sampled_from(["a", "b", "c", "none"]), min_size=1).map(lambda some: {"in": sorted(some)})
_FILTERS = st.one_of(
    st.none(),
    st.fixed_dictionaries({"model": _NAMED}),
    st.fixed_dictionaries({"model": _NAMED, "region": st.sampled_from([{"eq": "eu"}, {"eq": "us"}])}),
    st.fixed_dictionaries({"customer": _condition(["c0", "c1"]), "model": _condition(["a", "b"])}),
)
_PLACES = st.tuples(
    st.sampled_from(sorted(METERS)),
    st.sampled_from([(), ("model",), ("region",)]),
    st.sampled_from([None, "day"]),
)


def _recorded(live: Live) -> Tenant:
    tenant = live.tenant()
    for key, members in METERS.items():
        tenant.meter(
            key=key, event_type="llm", dimensions={"model": "$.model", "region": "$.region"}, **members
        )
    chance = random.Random(7)
    events: list[dict[str, Any]] = []
    for number in range(120):
        data: dict[str, Any] = {"n": f"{chance.randrange(1, 500)}.{chance.randrange(100)}"}
        for name, values in (("model", MODELS), ("region", ["eu", "us", None])):
            value = chance.choice(values)
            if value is not None:
                data[name] = value
        time = f"2026-07-{11 + chance.randrange(4)}T{chance.randrange(24):02}:00:00Z"
        subject = chance.choice(_CUSTOMERS)
        events.append({"id": str(number), "type": "llm", "subject": subject, "time": time, "data": data})
    tenant.record(*events)
    return tenant


def test_questions_asked_together_have_the_answers_each_has_alone(live: Live) -> None:
    tenant = _recorded(live)
    system = live.system
    spared = 0
    answers: dict[Question, Any] = {}

    def asked(*questions: Question) -> Any:
        wanted = Wanted()
        for question in questions:
            wanted.add(question, 1, _CUSTOMERS)
        return live.run(gather(system, tenant.key, wanted, None))

    @settings(max_examples=12, deadline=None)
    @given(_PLACES, st.lists(_FILTERS, min_size=2, max_size=8, unique_by=repr))
    def compare(place: tuple[str, tuple[str, ...], str | None], filters: list[dict[str, Any] | None]) -> None:
        nonlocal spared
        meter, dimensions, window = place
        texts = [None if one is None else json.dumps(one, sort_keys=True) for one in filters]
        questions = [Question(meter, text, dimensions, BEGIN_US, NOW_US, window) for text in texts]
        found = asked(*questions)
        for question in questions:
            if question not in answers:
                answers[question] = asked(question)[question, 1]
            assert found[question, 1] == answers[question], question
        spared += len(questions) - len(families(questions, system.catalog.meter(tenant.key, meter)))

    compare()
    assert spared > 3  # there was something to compare


def test_invoices_made_together_are_those_made_one_by_one(live: Live) -> None:
    """Ten charges of one meter that differ in their filter, for several customers: in one run, and each for itself."""

    def bill(tenant: Tenant, *, at_once: bool) -> dict[str, Any]:
        tenant.meter(
            key="tokens", event_type="llm", aggregation="sum", value="$.n", dimensions={"model": "$.model"}
        )
        tiers = [{"up_to": "10", "unit_amount": "1"}, {"up_to": None, "unit_amount": "0.55"}]
        charges = [
            {
                "key": f"m{number}",
                "meter": "tokens",
                "filter": {"model": {"in": [f"m{number}", "all"]}},
                "price": {"model": "graduated", "tiers": tiers},
            }
            for number in range(10)
        ]
        made = tenant.post("/v1/plans", {"key": "p", "currency": "EUR", "charges": charges, "minimum": "40"})
        assert made.status_code == 201, made.text
        tenant.post("/v1/plans/p/publish")
        chance = random.Random(3)
        tenant.record(
            *(
                {
                    "id": str(number),
                    "type": "llm",
                    "subject": chance.choice(_CUSTOMERS),
                    "time": f"2026-07-{1 + chance.randrange(14):02}T00:00:00Z",
                    "data": {"n": number, "model": chance.choice(["all", *(f"m{one}" for one in range(10))])},
                }
                for number in range(80)
            )
        )
        for key in _CUSTOMERS:
            body = {"customer": key, "plan": "p", "start": "2026-07-01T00:00:00Z"}
            subscribed = tenant.post("/v1/subscriptions", body)
            assert subscribed.status_code == 201, subscribed.text
            if not at_once:
                tenant.post("/v1/billing/run", {"at": "2026-09-01T02:00:00Z"})
        report = tenant.post("/v1/billing/run", {"at": "2026-09-01T02:00:00Z"}).json()
        assert report["failed"] == []
        found = tenant.answer("/v1/invoices")["items"]
        assert sorted(one["number"] for one in found) == [f"INV-{one:06}" for one in range(1, 9)]
        return {
            f"{one['customer']} {one['period']['from']}": [one["lines"], one["subtotal"], one["total"]]
            for one in found
        }

    assert bill(live.tenant(), at_once=True) == bill(live.tenant(), at_once=False)
