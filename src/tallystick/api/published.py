"""The OpenAPI document without a running system: for tools that make clients from it."""

from typing import Any

from litestar import Litestar

from tallystick.api.app import framework_routes, standard_routes
from tallystick.api.openapi import document
from tallystick.config import Settings


def published_document(settings: Settings) -> dict[str, Any]:
    """What `GET /openapi.json` of a server with these settings answers."""
    routes = [*framework_routes(None), *standard_routes(settings)]
    return document(Litestar(route_handlers=routes, openapi_config=None))
