"""What may not be reached, with the settings a server comes with."""

import pytest
from tests.api.questions.live import Tenant, faults

PRIVATE = [
    "http://127.0.0.1/",
    "http://localhost:9/x",
    "http://[::1]/",
    "https://10.0.0.8/",
    "http://169.254.169.254/latest",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_are_refused(tenant: Tenant, url: str) -> None:
    for kind in ("webhook", "slack"):
        refused = tenant.post("/v1/channels", {"key": "a", "type": kind, "url": url})
        assert (refused.status_code, faults(refused)) == (422, [("/url", "address_refused")])
    tenant.post("/v1/channels", {"key": "b", "type": "email", "to": "a@example.com"})
    made = tenant.post("/v1/channels", {"key": "c", "type": "webhook", "url": "https://name.invalid/hook"})
    assert made.status_code == 201, "a name that has no address just now may be kept"
    refused = tenant.send("PUT", "/v1/channels/c", json={"url": url})
    assert faults(refused) == [("/url", "address_refused")]
