"""`/auth/login`, `/auth/callback`, `/auth/logout`: people log in at an OpenID Connect provider and get a short-lived token.

Present only with the setting `oidc_issuer`. The authorization code flow with PKCE (RFC 7636): the browser carries state,
nonce and verifier in one cookie, signed with the client's secret, so that any server can end what another one began. The
ID token is believed when its signature, issuer, audience, times and nonce are right (OpenID Connect Core 3.1.3.7); what the
person may do comes from the roles in it, by the setting `oidc_roles`. The token given for it is like a portal token: random,
kept as a digest, revocable, and ended by itself after `oidc_session_s`.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote, urlencode

import httpx
from litestar import Request, Response, get, post
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import Authenticator, actor_of, address_of, request_id_of
from tallystick.api.openapi import STRING, TIME, array, objects, operation, query
from tallystick.catalog.interface import Actor
from tallystick.catalog.scopes import GRANTABLE, in_order
from tallystick.config import Settings
from tallystick.errors import BadRequest, Fault, Forbidden, Invalid, Unauthenticated, Unavailable
from tallystick.flows.usage import in_questions

Connection = Request[Any, Any, Any]

COOKIE = "tallystick_login"
LOGIN_S_MAX = 600
PROVIDER_S_MAX = 10.0
METADATA_S_MAX = 3600.0
CLOCK_LEEWAY_S = 60
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a public key alone: none, and HMAC with what the client knows, are not among them."""
ANSWER_BYTES_MAX = 1024 * 1024


def read_roles(text: str) -> Mapping[str, tuple[str, ...]]:
    """`billing=billing:read usage:read; admins=admin` → role → scopes. Raises Invalid (invalid_setting), every fault."""
    roles: dict[str, tuple[str, ...]] = {}
    faults: list[Fault] = []
    for part in filter(None, (one.strip() for one in text.split(";"))):
        role, _, granted = part.partition("=")
        scopes = granted.split()
        unknown = [scope for scope in scopes if scope not in GRANTABLE]
        if not role.strip() or not scopes or unknown:
            detail = f"oidc_roles: {part[:80]!r} is not `role=scope scope`"
            detail += f"; there is no {', '.join(unknown)[:80]}." if unknown else "."
            faults.append(Fault("oidc_roles", "invalid_setting", detail))
        roles[role.strip()] = tuple(scopes)
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults), code="invalid_setting", faults=faults)
    return roles


class Provider:
    """One OpenID Connect provider, as its metadata describes it."""

    def __init__(self, settings: Settings) -> None:
        self.issuer = settings.oidc_issuer.rstrip("/")
        self.roles = read_roles(settings.oidc_roles)
        self._settings = settings
        self._metadata: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}
        self._read_at_s = float("-inf")

    async def metadata(self) -> dict[str, Any]:
        """The provider's metadata, with its keys read anew once an hour. Raises Unavailable."""
        if time.monotonic() - self._read_at_s > METADATA_S_MAX:
            await self._read()
        return self._metadata

    async def _read(self) -> None:
        found = await self._ask("GET", f"{self.issuer}/.well-known/openid-configuration")
        if str(found.get("issuer", "")).rstrip("/") != self.issuer:
            raise Unavailable("The login provider calls itself by another name than the setting oidc_issuer.")
        self._keys = await self._ask("GET", str(found["jwks_uri"]))
        self._metadata, self._read_at_s = found, time.monotonic()

    async def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=PROVIDER_S_MAX, follow_redirects=False) as client:
                answer = await client.request(method, url, **options)
            document = answer.json() if len(answer.content) <= ANSWER_BYTES_MAX else None
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable("The login provider does not answer.", retry_after_s=5) from error
        if answer.status_code in (400, 401) and method == "POST":
            raise Unauthenticated("The login provider refused the code. Log in again.", code="login_failed")
        if answer.status_code != 200 or not isinstance(document, dict):
            raise Unavailable("The login provider does not answer as it should.", retry_after_s=5)
        return cast("dict[str, Any]", document)

    async def redirect(self, callback: str, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes to log in."""
        challenge = _text(hashlib.sha256(verifier.encode()).digest())
        asked = {
            "response_type": "code",
            "client_id": self._settings.oidc_client_id,
            "redirect_uri": callback,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str((await self.metadata())["authorization_endpoint"])
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked, quote_via=quote)}"

    async def claims(self, callback: str, code: str, nonce: str, verifier: str) -> dict[str, Any]:
        """What the provider says of the person. Raises Unauthenticated (login_failed), Unavailable."""
        answer = await self._ask(
            "POST",
            str((await self.metadata())["token_endpoint"]),
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": callback,
                "code_verifier": verifier,
                "client_id": self._settings.oidc_client_id,
            },
            auth=(self._settings.oidc_client_id, self._settings.oidc_client_secret),
        )
        return await self._checked(str(answer.get("id_token", "")), nonce)

    async def _checked(self, id_token: str, nonce: str) -> dict[str, Any]:
        try:
            return self._decoded(id_token, nonce)
        except Unauthenticated:
            # The provider may have changed its keys since they were read.
            await self._read()
            return self._decoded(id_token, nonce)

    def _decoded(self, id_token: str, nonce: str) -> dict[str, Any]:
        from joserfc import jwt  # comes with authlib: the extra `oidc`
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        registry = jwt.JWTClaimsRegistry(
            leeway=CLOCK_LEEWAY_S,
            iss={"essential": True, "values": [self.issuer, f"{self.issuer}/"]},
            aud={"essential": True, "value": self._settings.oidc_client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            keys = KeySet.import_key_set(cast("Any", self._keys))
            found = jwt.decode(id_token, keys, algorithms=ALGORITHMS)
            registry.validate(found.claims)
        except (JoseError, ValueError, KeyError) as error:
            raise Unauthenticated(
                "The login provider's answer cannot be believed. Log in again.", code="login_failed"
            ) from error
        return dict(found.claims)

    def scopes(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """What the person's roles allow. Raises Forbidden (no_role)."""
        listed = claims.get(self._settings.oidc_roles_claim, ())
        roles = [listed] if isinstance(listed, str) else list(listed)
        granted = {scope for role in roles for scope in self.roles.get(str(role), ())}
        if not granted:
            raise Forbidden("None of your roles may do anything here.", code="no_role")
        return in_order(granted)


class Sealed:
    """State that a browser carries: what it says was made here, and is not old."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"tallystick login " + secret.encode()).digest()

    def seal(self, value: Mapping[str, str], *, now_us: int) -> str:
        body = _text(json.dumps({**value, "at": now_us}).encode())
        return f"{body}.{_text(self._signature(body))}"

    def open(self, text: str, *, now_us: int) -> dict[str, Any] | None:
        body, _, signature = text.partition(".")
        if not hmac.compare_digest(_text(self._signature(body)).encode(), signature.encode()):
            return None
        value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return value if 0 <= now_us - value["at"] <= LOGIN_S_MAX * 1_000_000 else None

    def _signature(self, body: str) -> bytes:
        return hmac.digest(self._key, body.encode(), "sha256")


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def login_routes(settings: Settings) -> list[ControllerRouterHandler]:
    """The three routes, or none without the setting `oidc_issuer`. Raises Invalid (invalid_setting)."""
    if not settings.oidc_issuer:
        return []
    missing = [
        name
        for name in ("oidc_client_id", "oidc_client_secret", "oidc_redirect_url", "oidc_roles")
        if not getattr(settings, name)
    ]
    if missing:
        raise Invalid(f"With oidc_issuer, {', '.join(missing)} must be set as well.", code="invalid_setting")
    provider = Provider(settings)
    sealed = Sealed(settings.oidc_client_secret)
    callback_url = settings.oidc_redirect_url
    secure = "; Secure" if callback_url.startswith("https://") else ""
    cookie = f"Path=/auth; HttpOnly; SameSite=Lax{secure}"

    @get(
        "/auth/login",
        status_code=303,
        opt={
            "operation": operation(
                summary="Log in",
                tag="Access",
                description="Sends the browser to the provider of the setting `oidc_issuer`, which sends it to `/auth/callback`.",
                status=303,
                errors=(422, 503),
                public=True,
            )
        },
    )
    async def login(request: Connection) -> Response[None]:
        wire.check_parameters(request, ())
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        target = await provider.redirect(callback_url, state, nonce, verifier)
        value = sealed.seal(
            {"state": state, "nonce": nonce, "verifier": verifier},
            now_us=wire.system_of(request).clock.now_us(),
        )
        return Response(
            None,
            status_code=303,
            headers={"Location": target, "Set-Cookie": f"{COOKIE}={value}; Max-Age={LOGIN_S_MAX}; {cookie}"},
        )

    @get(
        "/auth/callback",
        opt={
            "operation": operation(
                summary="Come back from the provider",
                tag="Access",
                description="Answers the token; or, with the setting `oidc_return_url`, sends the browser there with "
                "`#token=…&expires_at=…`, which no server sees.",
                parameters=[
                    query("code", "What the provider gave."),
                    query("state", "What `/auth/login` gave."),
                    query("error", "Why the provider gave none."),
                ],
                answer=objects(
                    {
                        "token": STRING,
                        "name": STRING,
                        "scopes": array({"type": "string", "enum": list(GRANTABLE)}),
                        "expires_at": TIME,
                    }
                ),
                answers={303: {"description": "With `oidc_return_url`."}},
                errors=(400, 401, 403, 503),
                public=True,
            )
        },
    )
    async def callback(request: Connection) -> Response[Any]:
        system = wire.system_of(request)
        now_us = system.clock.now_us()
        kept = sealed.open(request.cookies.get(COOKIE, ""), now_us=now_us)
        code, state = request.query_params.get("code"), request.query_params.get("state")
        if kept is None or state is None or not hmac.compare_digest(kept["state"].encode(), state.encode()):
            raise BadRequest(
                "This login was not begun here, or too long ago. Log in again.", code="login_unknown"
            )
        if code is None:
            raise Unauthenticated("The login provider gave no code. Log in again.", code="login_failed")
        claims = await provider.claims(callback_url, code, kept["nonce"], kept["verifier"])
        scopes = provider.scopes(claims)
        name = str(claims.get("email") or claims["sub"])[:256]
        actor = Actor(name, None, request_id_of(request), address_of(request.scope) or None)
        made = await in_questions(
            system,
            lambda: system.catalog.create_token(
                settings.oidc_tenant,
                kind="session",
                name=name,
                customer=None,
                scopes=scopes,
                issued_by=None,
                expires_at_us=now_us + settings.oidc_session_s * 1_000_000,
                actor=actor,
                now_us=now_us,
            ),
        )
        expires_at = wire.time_text(made.token.expires_at_us)
        headers = {"Set-Cookie": f"{COOKIE}=; Max-Age=0; {cookie}"}
        if settings.oidc_return_url:
            fragment = urlencode({"token": made.secret, "expires_at": expires_at})
            headers["Location"] = f"{settings.oidc_return_url}#{fragment}"
            return Response(None, status_code=303, headers=headers)
        document = {"token": made.secret, "name": name, "scopes": list(scopes), "expires_at": expires_at}
        return Response(document, headers=headers)

    @post(
        "/auth/logout",
        status_code=204,
        opt={
            "operation": operation(
                summary="Log out",
                tag="Access",
                description="Ends the token it is asked with.",
                status=204,
                errors=(401, 404, 503),
                public=True,
            )
        },
    )
    async def logout(request: Connection) -> None:
        system = wire.system_of(request)
        authenticator: Authenticator = request.app.state["authenticator"]
        who = await authenticator.authenticate(
            request.headers.get("authorization"), address=address_of(request.scope)
        )
        request.scope["auth"] = who
        actor, now_us = actor_of(request), system.clock.now_us()
        await asyncio.to_thread(
            system.catalog.revoke_token, who.tenant, who.key_id, kind="session", actor=actor, now_us=now_us
        )
        authenticator.forget()

    return [login, callback, logout]
