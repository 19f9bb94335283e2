"""schemathesis over the whole contract, as every kind of caller: no 5xx, no undocumented answer, nothing of another's.

Bounded and repeatable: so many cases an operation, from a fixed seed. Each case is asked by the next caller in turn."""

import itertools
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import FlakyFailure as Flaky
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.api.questions.live import Tenant
from tests.api.questions.world import SECRET, World

pytestmark = pytest.mark.slow

CASES = 12
"""Of each operation and each mode."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
NOT_BY_ROOT = ("/v1/admin/backups", "/v1/admin/rebuild", "/v1/tenants/{key}")
"""Write files where they are told to, or take away what the other cases ask about."""

schemathesis.serializer.alias("application/x-protobuf", "application/octet-stream")

ENDLESS = ("/v1/stream",)
"""Answers without an end, which are asked in test_stream.py."""


def send(world: World, caller: Tenant | None, case: Any) -> httpx.Response:
    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://test")).prepare()
    headers = {name: value for name, value in prepared.headers.items() if name.lower() != "authorization"}
    if caller is not None:
        headers["Authorization"] = f"Bearer {caller.secret}"
    request = httpx.Request(prepared.method or "", prepared.url or "", headers=headers, content=prepared.body)
    return world.live.run(world.live._client.send(request))


class Fuzz:
    """Asks, and notes what the contract does not allow."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = 0
        self.wrong: dict[tuple[str, str], str] = {}
        self.may_see = {"admin", "portal", *world.scoped}
        # Those who get past the door come up more often.
        everybody: list[tuple[str, Tenant | None]] = [
            *world.scoped.items(),
            ("root", world.root),
            ("nobody", None),
            ("wrong", world.refused["a wrong key"]),
            ("other", world.other),
            *[("admin", world.admin), ("portal", world.portal), ("elsewhere", world.elsewhere)] * 5,
        ]
        self.turns = itertools.cycle(everybody)

    def operation(self, operation: Any, mode: GenerationMode) -> None:
        @settings(
            max_examples=CASES,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def ask(case: Any) -> None:
            self.case(operation, case)

        for is_last in (False, True):
            try:
                ask()
            except Flaky as error:
                # What fails in asking is noted below. This is drawing a case that failed once, and not when it was repeated.
                if is_last:
                    self.wrong[operation.label, "cannot be drawn"] = f"{error}: {error.exceptions!r}"[:1500]
                continue
            except Exception as error:
                # Some operations have nothing that could be wrong.
                if type(error).__name__ not in ("Unsatisfiable", "SkipTest"):
                    self.wrong[operation.label, "cannot be asked"] = f"{type(error).__name__}: {error}"[:500]
            return

    def case(self, operation: Any, case: Any) -> None:
        who, caller = next(self.turns)
        if who == "root" and operation.path in NOT_BY_ROOT:
            who, caller = next(self.turns)
        try:
            answer = send(self.world, caller, case)
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, httpx.InvalidURL):
            return  # no client could send that
        except Exception as error:
            self.wrong.setdefault((operation.label, f"no answer to {who}"), repr(error)[:1500])
            return
        self.asked += 1
        if who not in self.may_see and SECRET in answer.text:
            self.wrong[operation.label, f"leak to {who}"] = answer.text[:300]
        try:
            case.validate_response(answer, checks=CHECKS)
        except (Exception, FailureGroup) as error:
            place = (operation.label, f"{answer.status_code} {type(error).__name__}")
            self.wrong.setdefault(place, f"{who}: {error}"[:1500])


def test_whatever_is_asked_the_contract_holds(world: World) -> None:
    document = world.live.send("GET", "/openapi.json").json()
    fuzz = Fuzz(world)
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        if found.ok().path in ENDLESS:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            fuzz.operation(found.ok(), mode)
    assert not fuzz.wrong, "\n\n".join(f"{place}\n{what}" for place, what in fuzz.wrong.items())
    assert fuzz.asked > 1500


def test_the_fuzz_would_notice(world: World) -> None:
    document = world.live.send("GET", "/openapi.json").json()
    listed = document["paths"]["/v1/meters"]["get"]
    listed["responses"] = {"401": listed["responses"]["401"], "403": listed["responses"]["403"]}
    fuzz = Fuzz(world)
    schema = schemathesis.openapi.from_dict(document)
    fuzz.operation(schema["/v1/meters"]["GET"], GenerationMode.POSITIVE)
    assert {label for label, _ in fuzz.wrong} == {"GET /v1/meters"}
    assert any(what.startswith(("200", "422")) for _, what in fuzz.wrong)
