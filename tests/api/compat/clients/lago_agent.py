"""Lago's agent SDK, whose queue sends in the background, and once more what it has sent already.

Run in an interpreter of its own: `lago_agent.py BASE KEY`.
"""

import json
import sys

from lago_agent_sdk import CanonicalUsage, LagoConfig, LagoSDK

BASE, KEY = sys.argv[1:]
failures: list[str] = []
sdk = LagoSDK(
    KEY,
    config=LagoConfig(
        api_url=f"{BASE}/api/v1",
        default_subscription_id="agent",
        max_batch_size=20,
        on_error=lambda error, where: failures.append(f"{where}: {error}"),
    ),
)


def send() -> bool:
    for number in range(25):
        usage = CanonicalUsage(input=number + 1, output=2, model="gpt-4", provider="openai", api="chat")
        sdk.emit(usage, event_id=f"call-{number}")
    return sdk.flush(timeout=60)


flushed = [send(), send()]
sdk.shutdown()
print(json.dumps({"flushed": flushed, "failures": len(failures)}))
