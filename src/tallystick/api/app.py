"""Puts the HTTP API together: the routes, the framework around them, the shell around that."""

import asyncio
from collections.abc import Sequence
from functools import cache, partial
from typing import Any
from urllib.parse import unquote

import msgspec
import uvicorn
from litestar import Litestar, Request, Response, get, post
from litestar.datastructures import State
from litestar.types import ASGIApp, ControllerRouterHandler, Receive, Scope, Send

from tallystick.api import (
    admin,
    admin_backup,
    admin_move,
    admin_retention,
    alert_previews,
    alerts,
    audit,
    backfills,
    backtest,
    billing_export,
    channels,
    corrections,
    credit_notes,
    crediting,
    customers,
    dead_letters,
    deliveries,
    explain,
    export,
    exports,
    forecasts,
    formulas,
    gate,
    health,
    invoice_forecasts,
    invoices,
    items,
    keys,
    late,
    limit_forecasts,
    limits,
    me,
    meter_preview,
    meters,
    overview,
    pages,
    plans,
    portal_tokens,
    prices,
    reports,
    search,
    sources,
    stream,
    subscriptions,
    telemetry,
    tenants,
    transitions,
    usage,
    views,
)
from tallystick.api.auth import Authenticator, require
from tallystick.api.compat.mount import Compat, compat_routes, vendors_of
from tallystick.api.cors import Cors
from tallystick.api.forwarded import Proxies
from tallystick.api.idempotency import idempotent
from tallystick.api.ingest import INGEST_PATH, SCOPE, Ingest
from tallystick.api.login import login_routes
from tallystick.api.openapi import document, events_operation, operation
from tallystick.api.problem import exception_response
from tallystick.api.quick import Quick
from tallystick.api.rates import Rates
from tallystick.api.shell import Shell
from tallystick.api.web import Web
from tallystick.api.wire import JSON_BODY_BYTES_MAX
from tallystick.config import Settings
from tallystick.flows.system import System

KEEP_ALIVE_S = 75
SHUTDOWN_S_MAX = 20
BACKLOG = 2048


BILLING_ROUTES = (
    *prices.ROUTES,
    *plans.ROUTES,
    *subscriptions.ROUTES,
    *invoices.ROUTES,
    *invoice_forecasts.ROUTES,
    *items.ROUTES,
    *credit_notes.ROUTES,
    *late.ROUTES,
    *crediting.ROUTES,
    *backtest.ROUTES,
    *billing_export.ROUTES,
)


def create_app(system: System, *, routes: Sequence[ControllerRouterHandler] | None = None) -> ASGIApp:
    """The ASGI application of a running system. `routes` replaces the standard ones (tests)."""
    authenticator = Authenticator(system.catalog, now_us=system.clock.now_us, rates=Rates(system.settings))
    if system.limits is not None and system.limits.process is not None:
        authenticator.on_forgotten = system.limits.process.changed
    ingest = Ingest(system, authenticator)
    system.metrics.watch_recorder(totals=partial(_totals, system), lag=partial(_lag, system))
    system.metrics.watch_alerts(partial(_alert_figures, system))
    system.metrics.watch_sources(system.sources.figures)
    system.metrics.watch_derived(
        meters_left=lambda: len(system.recorder.unbuilt()), rollups=partial(_rolled_up, system)
    )
    framework = Litestar(
        route_handlers=[
            *framework_routes(ingest),
            *(standard_routes(system.settings) if routes is None else routes),
        ],
        middleware=[decoded_parameters, idempotent],
        exception_handlers={Exception: exception_response},
        state=State(
            {
                "system": system,
                "authenticator": authenticator,
                "ingest": ingest,
                "readiness": health.Readiness(system, ingest),
            }
        ),
        on_shutdown=[authenticator.note_used, ingest.close],
        request_max_body_size=JSON_BODY_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
    )
    published = document(framework)
    framework.state["openapi"] = msgspec.json.encode(published)
    # Made when somebody asks, which few ever do: it takes a tenth of a second.
    framework.state["docs"] = cache(lambda: pages.page(published).encode())
    return Shell(
        Web(Compat(framework, vendors_of(system.settings)), system.settings),
        ingest,
        metrics=system.metrics,
        cors=Cors(system.settings.cors_origins),
        gate=system.gate,
        proxies=Proxies(system.settings.trusted_proxies),
        gate_quick=Quick(system, authenticator) if routes is None else None,
    )


def framework_routes(ingest: ASGIApp | None) -> Sequence[ControllerRouterHandler]:
    """The routes that every application has. `ingest`: None where nothing is served (api/published.py)."""
    return (health.live, health.ready, health.metrics, openapi_json, docs_page, _events_route(ingest))


def standard_routes(settings: Settings) -> Sequence[ControllerRouterHandler]:
    """Every route of the contract beside the few that this module and health.py hold. With `billing` off, those of
    pricing are absent."""
    return (
        *meters.ROUTES,
        *meter_preview.ROUTES,
        *usage.ROUTES,
        *forecasts.ROUTES,
        *limit_forecasts.ROUTES,
        *formulas.ROUTES,
        *overview.ROUTES,
        *explain.ROUTES,
        *search.ROUTES,
        *stream.ROUTES,
        *export.ROUTES,
        *exports.ROUTES,
        *corrections.ROUTES,
        *backfills.ROUTES,
        *customers.ROUTES,
        *me.ROUTES,
        *keys.ROUTES,
        *tenants.ROUTES,
        *audit.ROUTES,
        *portal_tokens.ROUTES,
        *limits.ROUTES,
        *gate.ROUTES,
        *channels.ROUTES,
        *deliveries.ROUTES,
        *sources.ROUTES,
        *dead_letters.ROUTES,
        *alerts.ROUTES,
        *alert_previews.ROUTES,
        *transitions.ROUTES,
        *views.ROUTES,
        *reports.ROUTES,
        *login_routes(settings),
        *admin.ROUTES,
        *admin_backup.ROUTES,
        *admin_move.ROUTES,
        *admin_retention.ROUTES,
        *(BILLING_ROUTES if settings.billing == "on" else ()),
        *telemetry.ROUTES,
        *compat_routes(settings),
    )


def _totals(system: System) -> tuple[int, int, int]:
    totals = system.recorder.totals
    return totals.events, totals.duplicates, totals.conflicts


def _lag(system: System) -> tuple[int, float]:
    lag = system.recorder.lag()
    return lag.events, lag.seconds


def _alert_figures(system: System) -> dict[str, float]:
    status = system.alerts
    behind_us = max(0, system.recorder.recorded_at_us - status.moment_us) if status.alerts else 0
    return {
        "working": status.working,
        "armed": status.alerts,
        "failing": status.fault is not None,
        "undecidable": len(status.faults),
        "lag_seconds": behind_us / 1e6,
        "looks": status.looks,
        "look_seconds": status.look_seconds,
        "failures": status.failures,
        "transitions": status.transitions,
    }


def _rolled_up(system: System) -> dict[str, tuple[int, int]]:
    return {view.value: (one.readings, one.pending) for view, one in system.rollups.status.items()}


def server_config(app: ASGIApp, *, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves it: uvloop and httptools, our own access log, an end to waiting on shutdown."""
    direct = app.direct() if isinstance(app, Shell) else None
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]  # Litestar's and uvicorn's ASGI types differ in name only
        host=host,
        port=port,
        loop="uvloop",
        http="httptools" if direct is None else direct.protocol(),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # the shell does it, for proxies that are trusted (api/forwarded.py)
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S_MAX,
    )


@get(
    "/openapi.json",
    opt={
        "operation": operation(
            summary="This document", tag="Operation", answer={"type": "object"}, public=True
        )
    },
)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    return Response(request.app.state["openapi"], media_type="application/json")


@get(
    "/docs",
    opt={
        "operation": operation(
            summary="The contract for people",
            tag="Operation",
            answer_types={"text/html": {"schema": {"type": "string"}}},
            public=True,
        )
    },
)
async def docs_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    return Response(
        await asyncio.to_thread(request.app.state["docs"]),
        media_type="text/html",
        headers={"Content-Security-Policy": pages.POLICY},
    )


def _events_route(ingest: ASGIApp | None) -> ControllerRouterHandler:
    # The shell takes these requests past the framework; this is what makes it a route all the same: documented, and
    # named in `Allow`.
    @post(INGEST_PATH, guards=[require(SCOPE)], opt={"operation": events_operation()})
    async def post_events() -> ASGIApp | None:
        return ingest

    return post_events


def decoded_parameters(app: ASGIApp) -> ASGIApp:
    """Litestar middleware: takes off the percent-encoding that `shell.routed_path` leaves on path parameters."""

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        found = scope.get("path_params")
        if found:
            # A new dict: the router keeps the one it gave.
            scope["path_params"] = {name: unquote(value) for name, value in found.items()}
        await app(scope, receive, send)

    return handle
