"""Signatures are those of the Standard Webhooks library, and secrets are what it takes."""

import base64
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tallystick.delivery.sealed import Seal
from tallystick.delivery.signature import checked_secret, new_secret, public_key, signature_header
from tallystick.errors import Unavailable

BODY = '{"type":"alert.fired","summary":"80 % – é"}'.encode()


def headers(*secrets: str, at_s: int | None = None) -> dict[str, str]:
    at_s = int(time.time()) if at_s is None else at_s
    return {
        "webhook-id": "dlv_1",
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature_header("dlv_1", at_s, BODY, secrets),
    }


def test_the_library_verifies_it_also_while_secrets_change() -> None:
    old, new = new_secret("hmac"), new_secret("hmac")
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, headers(new, old))["type"] == "alert.fired"
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(BODY, headers(new))
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(BODY + b" ", headers(old))
    with pytest.raises(WebhookVerificationError, match="old"):
        Webhook(old).verify(BODY, headers(old, at_s=int(time.time()) - 301))


def test_the_example_of_the_specification() -> None:
    # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    found = signature_header(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_ed25519_by_the_public_key_alone() -> None:
    secret = new_secret("ed25519")
    public = public_key(secret) or ""
    assert public.startswith("whpk_")
    at_s = 1_700_000_000
    version, _, signature = signature_header("dlv_1", at_s, BODY, [secret]).partition(",")
    assert version == "v1a"
    verify = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_"))).verify
    verify(base64.b64decode(signature), f"dlv_1.{at_s}.".encode() + BODY)


def test_secrets_that_people_bring() -> None:
    assert checked_secret("whsec_" + base64.b64encode(b"x" * 24).decode(), "hmac").startswith("whsec_")
    assert checked_secret(base64.b64encode(b"x" * 32).decode(), "hmac").startswith("whsec_")
    for bad in ("whsec_", "whsec_!!!!", "short", "whsec_" + base64.b64encode(b"x" * 65).decode()):
        with pytest.raises(ValueError, match="must be"):
            checked_secret(bad, "hmac")
    with pytest.raises(ValueError, match="Ed25519"):
        checked_secret("whsk_" + base64.b64encode(b"x" * 24).decode(), "ed25519")


def test_seals() -> None:
    sealed = Seal("key").close("whsec_abc")
    assert "abc" not in sealed
    assert sealed != Seal("key").close("whsec_abc")
    assert Seal("key").open(sealed) == "whsec_abc"
    assert Seal("key").open(Seal("").close("whsec_abc")) == "whsec_abc"
    for other in (Seal("other"), Seal("")):
        with pytest.raises(Unavailable, match="secrets_key"):
            other.open(sealed)
