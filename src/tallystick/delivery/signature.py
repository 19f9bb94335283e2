"""Signatures of webhooks as https://www.standardwebhooks.com has them: `v1` is HMAC-SHA256, `v1a` is Ed25519.

What is signed is `<webhook-id>.<webhook-timestamp>.<body>`. A secret is written `whsec_<base64 of 24 to 64 bytes>`, or
`whsk_<base64 of 32 bytes>` (its public half: `whpk_…`). While a secret is being rotated the header carries a signature by
each, with a blank between: whoever verifies takes the one that fits.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HMAC_MARK, PRIVATE_MARK, PUBLIC_MARK = "whsec_", "whsk_", "whpk_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 16, 64
_SECRET_BYTES = 32
_SEED_BYTES = 32


def new_secret(kind: str) -> str:
    """Of kind "hmac" or "ed25519"."""
    mark = PRIVATE_MARK if kind == "ed25519" else HMAC_MARK
    return mark + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def checked_secret(text: str, kind: str) -> str:
    """A secret that a person brings, as it is kept. Raises ValueError with a sentence that follows the place's name."""
    mark = PRIVATE_MARK if kind == "ed25519" else HMAC_MARK
    try:
        raw = base64.b64decode(text.removeprefix(mark), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"must be {mark} and base64.") from error
    if kind == "ed25519":
        if len(raw) not in (_SEED_BYTES, 2 * _SEED_BYTES):
            raise ValueError(
                "must be whsk_ and the base64 of an Ed25519 key of 32 bytes (or with its public half, 64)."
            )
        raw = raw[:_SEED_BYTES]
    elif not SECRET_BYTES_MIN <= len(raw) <= SECRET_BYTES_MAX:
        raise ValueError(
            f"must be whsec_ and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes (24 or more are best)."
        )
    return mark + base64.b64encode(raw).decode()


def public_key(secret: str) -> str | None:
    """`whpk_…` of an Ed25519 secret; None of another."""
    if not secret.startswith(PRIVATE_MARK):
        return None
    public = _private(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return PUBLIC_MARK + base64.b64encode(public).decode()


def fingerprint(secret: str) -> str:
    """By which to tell secrets apart, and nothing else."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def signature_header(message_id: str, at_s: int, body: bytes, keys: Iterable[str]) -> str:
    """The value of `webhook-signature`."""
    content = f"{message_id}.{at_s}.".encode() + body
    return " ".join(_signature(content, secret) for secret in keys)


def _signature(content: bytes, secret: str) -> str:
    if secret.startswith(PRIVATE_MARK):
        return "v1a," + base64.b64encode(_private(secret).sign(content)).decode()
    key = base64.b64decode(secret.removeprefix(HMAC_MARK))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def _private(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret.removeprefix(PRIVATE_MARK)))
