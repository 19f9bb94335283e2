"""The CloudEvents SDK 2.x: structured, batch and binary, each event in all of them.

Run in an interpreter of its own: `cloudevents_2.py URL KEY`.
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import httpx
from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

URL, KEY = sys.argv[1:]
AUTHORIZATION = {"authorization": f"Bearer {KEY}"}

events = [
    CloudEvent(
        attributes={
            "id": f"two/{n} ü",
            "source": "sdk-2",
            "type": "job",
            "specversion": "1.0",
            "subject": "acme",
            "time": datetime(2026, 3, 2, tzinfo=UTC) + timedelta(minutes=n),
            "datacontenttype": "application/json",
        },
        data={"seconds": n},
    )
    for n in range(50)
]
form = JSONFormat()
answers: set[int] = set()
bodies: list[bytes] = []
for event in events:
    for message in (to_structured(event, form), to_binary(event, form)):
        headers = {**message.headers, **AUTHORIZATION}
        answers.add(httpx.post(URL, content=message.body, headers=headers, timeout=30).status_code)
    bodies.append(to_structured(event, form).body)
kind = {"content-type": "application/cloudevents-batch+json"}
whole = b"[" + b",".join(bodies) + b"]"
answers.add(httpx.post(URL, content=whole, headers={**kind, **AUTHORIZATION}, timeout=30).status_code)
print(json.dumps(sorted(answers)))
