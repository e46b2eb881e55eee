"""What is let through to Gradio: the addresses that this page and gradio_client use, with bodies of a modest size.

Gradio serves more than that: uploads, a proxy for other sites' files, links that store a page's state, its run history,
an editor of the app's own code. None is used here, and what is new in its next version need not be found out first.
"""

import logging
import re
from contextlib import suppress

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 64 * 1024  # bytes; what the page sends has about one thousand

_log = logging.getLogger(__name__)

READ = re.compile(
    r"/|/health|/config/?|/(static|assets|svelte)/.+|/favicon\.ico|/robots\.txt|/manifest\.json|/theme\.css"
    r"|/gradio_api/(info/?|openapi\.json|app_id/?|login_check/?|startup-events|theme\.css|file=.+|queue/data"
    r"|heartbeat/[^/]+|call/[^/]+/[^/]+)"
)
SENT = re.compile(r"/gradio_api/(queue/join/?|cancel|reset/?|(run|call|api)/[^/]+/?|call/v2/[^/]+/?)")


class Gate:
    """An ASGI application before another: 404 for other addresses, 413 for larger bodies, and no traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = _refusal(scope)
            if refused is not None:
                await refused(scope, receive, send)
                return
            await self._answered(scope, _limited(receive), send)
        else:
            await self._app(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001  # of Gradio's, which would end in a traceback in the log
            # An event that is unknown, which anybody can ask for, is refused when its stream has begun already.
            level = logging.DEBUG if isinstance(error.__cause__, HTTPException) else logging.ERROR
            _log.log(level, "request failed", exc_info=error)
            if not started:
                await JSONResponse({"detail": "Internal Server Error"}, 500)(scope, receive, send)
            else:
                with suppress(RuntimeError):  # of a server that was promised more
                    await send({"type": "http.response.body", "body": b""})


def _refusal(scope: Scope) -> JSONResponse | None:
    path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
    known = SENT if scope["method"] == "POST" else READ if scope["method"] in ("GET", "HEAD") else None
    if known is None or not known.fullmatch(path) or "file=http" in path:
        return JSONResponse({"detail": "Not Found"}, 404)
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > LARGEST_BODY:
        return JSONResponse({"detail": f"A body may have {LARGEST_BODY} bytes at most."}, 413)
    return None


def _limited(receive: Receive) -> Receive:
    got = 0

    async def counted() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > LARGEST_BODY:  # it told no length: as if the client had gone, its request is dropped where it stands
            return {"type": "http.disconnect"}
        return message

    return counted
