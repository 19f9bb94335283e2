"""Secrets of channels at rest. They must be read again to sign with them, so they cannot be hashed like API keys.

With the setting `secrets_key` they are sealed with AES-256-GCM under it; without, they are kept as they are (decision
0025): a key beside the data would protect from nothing that the data's own protection does not.
"""

import base64
import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tallystick.errors import Unavailable

_PLAIN, _SEALED = "plain:", "aes:"
_NONCE_BYTES = 12


class Seal:
    """`key`: any text of enough randomness; "": nothing is sealed. What was kept before a key was set stays readable."""

    def __init__(self, key: str) -> None:
        self._cipher = (
            AESGCM(hashlib.sha256(b"tallystick secrets\0" + key.encode()).digest()) if key else None
        )

    def close(self, secret: str) -> str:
        """As it is kept."""
        if self._cipher is None:
            return _PLAIN + secret
        nonce = os.urandom(_NONCE_BYTES)
        return _SEALED + base64.b64encode(nonce + self._cipher.encrypt(nonce, secret.encode(), None)).decode()

    def open(self, kept: str) -> str:
        """The secret. Raises Unavailable (secret_sealed): it was sealed under a key that is not set."""
        if kept.startswith(_PLAIN):
            return kept.removeprefix(_PLAIN)
        raw = base64.b64decode(kept.removeprefix(_SEALED))
        if self._cipher is not None:
            try:
                return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
            except InvalidTag:
                pass
        raise Unavailable(
            "The channel's secret is sealed under another secrets_key. Set that one again, or give the channel a new secret.",
            code="secret_sealed",
        )
