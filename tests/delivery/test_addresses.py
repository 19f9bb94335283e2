"""Which addresses a user's URL may lead to, name by name."""

import asyncio

import pytest

from tallystick.delivery.addresses import Guard, UnusableURL, is_public, parsed

REFUSED = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "100::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:7f00:1::1",
    "not-an-address",
]
ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
]


@pytest.mark.parametrize("address", REFUSED)
def test_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "https://",
        "example.com",
        "https://user:pass@example.com/",
        "https://e.com/\n",
        "file:///etc/passwd",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(UnusableURL) as refused:
        parsed(url)
    assert refused.value.code == "invalid_url"


def refusal(url: str, *answers: str, allow_private: bool = False) -> str | None:
    """Under which code a URL is refused whose name has these addresses; without any, as this machine resolves it."""

    async def resolve(host: str, port: int) -> list[str]:
        return list(answers)

    async def ask() -> str | None:
        guard = Guard(allow_private=allow_private, resolve=resolve if answers else None)
        try:
            await guard.addresses(parsed(url))
        except UnusableURL as error:
            return error.code
        finally:
            guard.close()
        return None

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://2130706433/", "http://0x7f000001/",
        "http://127.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/meta-data/", "http://0/",
    ],
)  # fmt: skip
def test_spellings_of_this_machine_as_the_system_reads_them(url: str) -> None:
    assert refusal(url) == "address_refused"
    assert refusal(url, allow_private=True) is None


def test_a_name_is_judged_by_every_address_it_has() -> None:
    assert refusal("https://e.com/", "1.1.1.1") is None
    assert refusal("https://e.com/", "1.1.1.1", "10.0.0.1") == "address_refused"
    assert refusal("https://e.com/", "::1") == "address_refused"


def test_a_name_without_an_address_may_be_kept_and_not_sent_to() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError

    async def ask() -> None:
        guard = Guard(allow_private=False, resolve=resolve)
        await guard.check("https://e.com/")
        with pytest.raises(UnusableURL) as refused:
            await guard.addresses(parsed("https://e.com/"))
        assert refused.value.code == "name_not_resolved"
        guard.close()

    asyncio.run(ask())
