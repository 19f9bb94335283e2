"""Where a request comes from, behind proxies that are trusted and ones that are not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.questions.live import opened

from tallystick.api.forwarded import Proxies
from tallystick.errors import Invalid

OURS = "10.0.0.0/8, 192.0.2.7 ,2001:db8::/32"


def client(peer: str, *listed: str, trusted: str = OURS) -> str:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in listed)]
    return Proxies(trusted).client_of(peer, headers)


@pytest.mark.parametrize(
    ("peer", "listed", "expected"),
    [
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),  # not one of ours: what it says is not believed
        ("10.1.2.3", (), "10.1.2.3"),
        ("10.1.2.3", ("198.51.100.1",), "198.51.100.1"),
        (
            "10.1.2.3",
            ("6.6.6.6, 198.51.100.1, 192.0.2.7",),
            "198.51.100.1",
        ),  # the first was made up by the client
        ("10.1.2.3", ("6.6.6.6", "198.51.100.1:4711"), "198.51.100.1"),
        ("10.1.2.3", ("[2001:db9::1]:80",), "2001:db9::1"),
        ("2001:db8::5", ("2001:db9::1",), "2001:db9::1"),
        ("::ffff:10.1.2.3", ("198.51.100.1",), "198.51.100.1"),
        ("10.1.2.3", ("10.9.9.9, 10.8.8.8",), "10.9.9.9"),
        ("10.1.2.3", ("198.51.100.1, unknown, 10.8.8.8",), "10.8.8.8"),
        ("10.1.2.3", ("<script>",), "10.1.2.3"),
        ("10.1.2.3", ("\xff\xfe",), "10.1.2.3"),
        ("unix", ("198.51.100.1",), "unix"),
    ],
)
def test_the_client_is_the_first_that_no_trusted_proxy_is(
    peer: str, listed: tuple[str, ...], expected: str
) -> None:
    assert client(peer, *listed) == expected


@given(st.lists(st.text(max_size=30).map(lambda text: text.encode("utf-8").decode("latin-1")), max_size=40))
def test_whatever_is_sent_an_address_comes_out(listed: list[str]) -> None:
    found = client("10.0.0.1", *listed)
    assert found.replace(".", "").replace(":", "").isalnum()


def test_the_audit_names_the_client(tmp_path: Path) -> None:
    with opened(tmp_path, trusted_proxies="127.0.0.1") as live:
        tenant = live.tenant()
        headers = {"x-forwarded-for": "6.6.6.6, 198.51.100.1"}
        tenant.send("POST", "/v1/customers", json={"key": "acme"}, headers=headers)
        (row,) = tenant.answer("/v1/audit?resource=customer/acme")["items"]
        assert row["address"] == "198.51.100.1"


def test_without_proxies_nobody_is_believed() -> None:
    assert not Proxies(" ").any
    assert client("10.1.2.3", "198.51.100.1", trusted="") == "10.1.2.3"


def test_every_fault_of_the_setting_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        Proxies("10.0.0.0/8, 10.0.0.1/8, *")
    assert len(caught.value.faults) == 2
    assert caught.value.code == "invalid_setting"
