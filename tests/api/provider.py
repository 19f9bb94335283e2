"""A small OpenID Connect provider on loopback, for tests: real keys, real codes, PKCE checked, and what can go wrong."""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import ECKey

CLIENT, SECRET = "tallystick", "provider-secret"


class Provider:
    """`person` is who logs in; `claims` override what the ID token says; `key` signs it."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": "1"})
        self.published = [self.key]
        self.person: dict[str, Any] = {"sub": "u1", "email": "ann@example.org", "groups": ["billing"]}
        self.claims: dict[str, Any] = {}
        self._codes: dict[str, dict[str, str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def log_in(self, url: str) -> dict[str, str]:
        """What a browser does there: it is sent back with a code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        assert "openid" in asked["scope"].split()
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def rotate(self) -> None:
        self.key = ECKey.generate_key("P-256", {"kid": str(len(self.published) + 1)})
        self.published.append(self.key)

    def _token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if authorization != f"Basic {basic}":
            return 401, {"error": "invalid_client"}
        if (
            asked is None
            or asked["redirect_uri"] != form.get("redirect_uri")
            or asked["code_challenge"] != base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        ):
            return 400, {"error": "invalid_grant"}
        now_s = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now_s,
            "exp": now_s + 60,
            "nonce": asked["nonce"],
            **self.person,
            **self.claims,
        }
        header = {"alg": "ES256", "kid": self.key.kid}
        id_token = jwt.encode(header, claims, self.key, algorithms=["ES256"])
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": id_token}

    def _handler(provider: "Provider") -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def _answer(self, status: int, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path == "/keys":
                    self._answer(200, {"keys": [key.as_dict(private=False) for key in provider.published]})
                elif self.path == "/.well-known/openid-configuration":
                    issuer = provider.issuer
                    self._answer(
                        200,
                        {
                            "issuer": issuer,
                            "jwks_uri": f"{issuer}/keys",
                            "authorization_endpoint": f"{issuer}/login",
                            "token_endpoint": f"{issuer}/token",
                        },
                    )
                elif self.path.startswith("/login?"):
                    # A browser comes here; the person has a session, and is sent back at once.
                    asked = parse_qs(urlsplit(self.path).query)
                    self.send_response(302)
                    back = f"{asked['redirect_uri'][0]}?{urlencode(provider.log_in(self.path))}"
                    self.send_header("location", back)
                    self.send_header("content-length", "0")
                    self.end_headers()
                else:
                    self._answer(404, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                self._answer(*provider._token(form, self.headers.get("authorization", "")))

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
