"""The CloudEvents SDK 1.x: structured, batch and binary, each event in all of them.

Run in an interpreter of its own: `cloudevents_1.py URL KEY`.
"""

import json
import sys

import requests
from cloudevents.conversion import to_binary, to_json, to_structured
from cloudevents.http import CloudEvent

URL, KEY = sys.argv[1:]
AUTHORIZATION = {"authorization": f"Bearer {KEY}"}

events = [
    CloudEvent(
        {
            "id": f"one {n} ü" if n % 2 else f"one-{n}",
            "source": "sdk-1",
            "type": "job",
            "subject": "acme",
            "time": f"2026-03-01T{n % 24:02}:00:00.25+05:45",
        },
        {"seconds": n},
    )
    for n in range(50)
]
answers: set[int] = set()
for event in events:
    headers, body = to_structured(event)
    answers.add(requests.post(URL, data=body, headers={**headers, **AUTHORIZATION}, timeout=30).status_code)
for event in events[:25:2]:  # 1.x puts other characters than Latin-1 ones on the wire as they are
    headers, body = to_binary(event)
    headers = dict(headers.items()) | {"content-type": "application/json"}
    answers.add(requests.post(URL, data=body, headers={**headers, **AUTHORIZATION}, timeout=30).status_code)
batch = "[" + ",".join(to_json(event).decode() for event in events) + "]"
kind = {"content-type": "application/cloudevents-batch+json; charset=utf-8"}
answers.add(
    requests.post(URL, data=batch.encode(), headers={**kind, **AUTHORIZATION}, timeout=30).status_code
)
print(json.dumps(sorted(answers)))
