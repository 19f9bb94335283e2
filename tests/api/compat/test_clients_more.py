"""Amberflo's and Stripe's own clients against a real server, only pointed at another URL: what they read is what they sent,
counted once whatever they repeat."""

import sys
from collections.abc import Iterator

import pytest
from tests.api.compat.isolated import CLIENTS, answer_of, node, python
from tests.cli.conftest import Server

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("clients") / "data").start()
    yield running
    running.stop()


@pytest.fixture
def key(server: Server, request: pytest.FixtureRequest) -> str:
    """The admin key of a tenant for this test alone."""
    with server.client() as client:
        made = client.post("/v1/tenants", json={"key": request.node.name.replace("_", "-")[:60]})
    assert made.status_code == 201, made.text
    return made.json()["admin_key"]


def test_amberflo_python(server: Server, key: str) -> None:
    read = answer_of([python("amberflo"), CLIENTS / "amberflo_python.py"], f"{server.url}/amberflo", key)
    assert read == {
        "meter": ["tokens", ["model"]],
        "customer": ["Zero", {"stripeId": "cus_0"}],
        "customers": ["customer-0", "customer-1"],
        "sent": ["1 records were ingested", "20 records were ingested", "10 records were ingested"],
        "total": [[1001]],
        "days": [226.5, 677.5, 97],
        "batch": [[[50]], [["customer-1", 49]], [["gpt-4", 368.3], ["o1", 132.2]]],
        "all": [["tokens", [["customer-0", 500.5], ["customer-1", 500.5]]]],
        "refused": {"wrong key": 401, "meter twice": 400, "unknown meter": 404, "no customer": 400},
    }


def test_stripe_python(server: Server, key: str) -> None:
    read = answer_of([sys.executable, CLIENTS / "stripe_python.py"], f"{server.url}/stripe", key)
    refused = ["InvalidRequestError", 400]
    assert read == {
        "same": "e-7",
        "duplicate": [*refused, "An event already exists with identifier e-7."],
        "legacy": ["tokens", [*refused, "An event already exists with identifier e-1."]],
        "totals": [500.5, 500.5],
        "hours": 25,
        "cancelled": 451.5,
        "listed": [True],
        "customer": "Acme",
        "deactivated": "inactive",
    }


def test_stripe_javascript(server: Server, key: str) -> None:
    place = node()
    read = answer_of(["node", place / "stripe.js"], f"{server.url}/stripe", key, directory=place)
    assert read == {
        "again": ["StripeInvalidRequestError", 400, "An event already exists with identifier js-3."],
        "total": [1001],
        "wrong": ["StripeAuthenticationError", 401],
        "meters": 1,
    }
