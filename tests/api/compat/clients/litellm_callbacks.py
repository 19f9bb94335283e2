"""LiteLLM's callbacks for OpenMeter and Lago, with answers of its own making.

Run in an interpreter of its own: `litellm_callbacks.py BASE KEY`. Prints how many calls it made, as JSON.
"""

import asyncio
import json
import os
import sys

BASE, KEY = sys.argv[1:]
os.environ |= {
    "OPENMETER_API_ENDPOINT": f"{BASE}/openmeter",
    "OPENMETER_API_KEY": KEY,
    "LAGO_API_BASE": f"{BASE}/lago",
    "LAGO_API_KEY": KEY,
    "LAGO_API_EVENT_CODE": "llm",
    "LAGO_API_CHARGE_BY": "end_user_id",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

import litellm  # noqa: E402  # it reads the environment

litellm.callbacks = ["openmeter", "lago"]
CALLS = 5


async def main() -> None:
    tokens = 0
    for number in range(CALLS):
        answer = await litellm.acompletion(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": f"Question {number}"}],
            mock_response="An answer of some words",
            user="litellm-customer",
            metadata={},
            proxy_server_request={"body": {"user": "litellm-customer"}},  # what its proxy passes on
        )
        tokens += answer.usage.total_tokens
    for _ in range(50):  # its callbacks are called behind the answer
        await asyncio.sleep(0.1)
    print(json.dumps({"calls": CALLS, "tokens": tokens}))


asyncio.run(main())
