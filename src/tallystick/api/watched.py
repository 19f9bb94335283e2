"""What a process without the role `api` answers: whether it is well, and its figures. Everything else is elsewhere."""

from litestar.types import ASGIApp, Receive, Scope, Send

from tallystick.api.problem import PROBLEM_TYPE, problem_body
from tallystick.errors import NotFound

_PATHS = ("/health/live", "/health/ready", "/metrics")


class Watched:
    """The application, as far as machines that watch machines need it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _PATHS:
            await self._app(scope, receive, send)
            return
        body = problem_body(
            NotFound("This process has not the role api; ask one that has.", code="route_not_found")
        )
        headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
