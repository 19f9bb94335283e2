"""Signatures are those that the Standard Webhooks library in JavaScript takes."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tallystick.delivery.signature import new_secret, signature_header

JS = Path(__file__).parents[1] / "js"
BODY = '{"type":"alert.fired","summary":"80 % – é"}'


@pytest.fixture(scope="module")
def library() -> None:
    """Installed as the lock file says, once (tests/js)."""
    if shutil.which("npm") is None:
        pytest.skip("There is no Node.js here.")
    if not (JS / "node_modules" / "standardwebhooks").exists():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(command, cwd=JS, check=True, timeout=120)


def test_the_javascript_library_verifies_it(library: None) -> None:
    old, new = new_secret("hmac"), new_secret("hmac")
    now_s = int(time.time())

    def message(secret: str, signed: list[str], at_s: int = now_s, body: str = BODY) -> dict[str, object]:
        signature = signature_header("dlv_1", at_s, BODY.encode(), signed)
        headers = {"webhook-id": "dlv_1", "webhook-timestamp": str(at_s), "webhook-signature": signature}
        return {"secret": secret, "headers": headers, "body": body}

    asked = [
        message(new, [new]),
        message(old, [new, old]),
        message(new, [new, old]),
        message(old, [new]),
        message(new, [new], now_s - 301),
        message(new, [new], body=BODY + " "),
    ]
    done = subprocess.run(
        ["node", "verify.mjs"],
        cwd=JS,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    document, refused = json.loads(BODY), "WebhookVerificationError"
    assert json.loads(done.stdout) == [document, document, document, refused, refused, refused]
