"""ASGI middleware for requests from scripts of other sites: CORS, and protection of servers on a visitor's machine."""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from server import client_address


class CrossOrigin(CORSMiddleware):
    """Lets pages of all sites use a public server, as Gradio does, and only its own pages a server on their machine.

    Otherwise any website could use a server that a visitor runs on localhost. Gradio's check knows the host names
    `localhost`, 127.0.0.1 and 0.0.0.0, and not, for example, [::1]. It is switched off where the parent application has
    a CORSMiddleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        methods = ("GET", "HEAD", "POST")
        super().__init__(
            app, allow_origin_regex=".*", allow_methods=methods, allow_headers=("*",), allow_credentials=True
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _may_use(Headers(scope=scope)):
            refusal = JSONResponse({"detail": "Other sites may not use a server on this machine."}, 403)
            await refusal(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def _may_use(headers: Headers) -> bool:
    """Whether a page with this Origin may use a server with this Host.

    A server behind a proxy is not on the visitor's machine, even if the proxy calls it as localhost.
    """
    origin = headers.get("origin")
    if not origin or client_address.proxies():
        return True
    try:
        host_name, origin_name = (urlsplit(url).hostname or "" for url in (f"//{headers.get('host', '')}", origin))
    except ValueError:
        return False
    return not client_address.is_loopback(host_name) or client_address.is_loopback(origin_name)
