"""HubSpot and Salesforce as their documents describe them, on the loopback interface."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

Answer = tuple[int, dict[str, str], Any]
Handler = Callable[[str, str, dict[str, str], bytes], Answer]


@contextmanager
def answering(handler: Handler) -> Iterator[str]:
    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, more, document = handler(self.command, self.path, headers, self.rfile.read(length))
            body = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {**more, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_POST  # noqa: N815 -- as the library asks for it

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class HubSpotServer:
    """Batch upsert of companies: at most 100, a batch with a wrong value is refused as a whole."""

    def __init__(self) -> None:
        self.companies: dict[str, dict[str, str]] = {}
        self.busy = 0
        self.requests = 0

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.requests += 1
        if headers.get("authorization") != "Bearer pat-1":
            return 401, {}, {"status": "error", "message": "Authentication credentials not found."}
        if self.busy:
            self.busy -= 1
            return 429, {"Retry-After": "3"}, {"status": "error", "errorType": "RATE_LIMIT"}
        assert (method, path) == ("POST", "/crm/v3/objects/companies/batch/upsert")
        inputs = json.loads(body)["inputs"]
        assert len(inputs) <= 100
        if any("NaN" in one["properties"].values() for one in inputs):
            return (
                400,
                {},
                {"status": "error", "category": "VALIDATION_ERROR", "message": "NaN was not a valid number."},
            )
        for one in inputs:
            assert one["idProperty"] == "tallystick_customer"
            assert all(isinstance(value, str) for value in one["properties"].values())
            self.companies[one["id"]] = self.companies.get(one["id"], {}) | one["properties"]
        return 200, {}, {"status": "COMPLETE", "results": [{"id": "1"}] * len(inputs)}


class SalesforceServer:
    """sObject collections: at most 200, each with its own result, in order. A token ends after some requests."""

    def __init__(self) -> None:
        self.accounts: dict[str, dict[str, Any]] = {}
        self.token = 0
        self.left = 2
        self.over = False
        self.url = ""

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if path == "/services/oauth2/token":
            asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            if asked != {"grant_type": "client_credentials", "client_id": "id", "client_secret": "secret"}:
                return 400, {}, {"error": "invalid_client", "error_description": "invalid client credentials"}
            self.token, self.left = self.token + 1, 2
            return (
                200,
                {},
                {"access_token": f"t{self.token}", "instance_url": self.url, "token_type": "Bearer"},
            )
        assert method == "PATCH"
        assert path == "/services/data/v62.0/composite/sobjects/Account/Tallystick_Customer__c"
        if headers.get("authorization") != f"Bearer t{self.token}" or not self.left:
            return 401, {}, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
        if self.over:
            return (
                403,
                {},
                [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}],
            )
        self.left -= 1
        document = json.loads(body)
        assert document["allOrNone"] is False
        assert len(document["records"]) <= 200
        results: list[dict[str, Any]] = []
        for record in document["records"]:
            assert record["attributes"] == {"type": "Account"}
            key = record["Tallystick_Customer__c"]
            if not record["Name"]:
                error = {
                    "statusCode": "REQUIRED_FIELD_MISSING",
                    "message": "Required fields are missing: [Name]",
                }
                results.append({"success": False, "errors": [error]})
                continue
            results.append({"id": "001", "success": True, "errors": [], "created": key not in self.accounts})
            self.accounts[key] = record
        return 200, {}, results
