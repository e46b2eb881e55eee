"""The ASGI application: Gradio's page, mounted in FastAPI behind the request filter and the response cache."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from server import event_readers, gradio_adapter, health, lifespan, live_channel
from server.connection import BoundedConnection, BoundedWebSocket
from server.cross_origin import CrossOrigin
from server.live_channel import LiveChannel
from server.request_filter import RequestFilter
from server.response_cache import ResponseCache

GRACE_SECONDS = 1  # for open connections to finish at shutdown

MOUNT: dict[str, Any] = {
    "ssr_mode": False,  # needs Node.js, and delays the charts
    "run_history": False,  # runs are private to their visitor
    "enable_monitoring": False,  # would list all visitors' events
    "show_error": False,  # gr.Error is shown anyway; other exceptions are only logged
    "max_file_size": "1kb",  # nothing is uploaded
    "allowed_paths": [],  # only files in Gradio's cache are served
    "footer_links": ["api"],
    "pwa": False,
    "mcp_server": False,
}


def create(
    blocks: gr.Blocks,
    live: LiveChannel,
    routes: Sequence[BaseRoute] = (),
    cached: Callable[[str], bool] = lambda path: False,
    **page: Any,
) -> FastAPI:
    """The application that serves these blocks and routes, and the live channel.

    `cached` says which further paths have the same response for everyone. `page` are options of
    `gr.mount_gradio_app`, such as `theme` and `head`.
    """
    root_path = os.environ.get("GRADIO_ROOT_PATH", "").rstrip("/")
    app = FastAPI(
        root_path=root_path,
        lifespan=lifespan.lifespan(blocks),
        routes=[Route("/health", health.route(blocks)), WebSocketRoute(live_channel.PATH, live.serve), *routes],
        middleware=[
            Middleware(CrossOrigin),
            Middleware(RequestFilter, blocks=blocks),
            Middleware(ResponseCache, cached=cached),
        ],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app_kwargs = {"docs_url": None, "redoc_url": None}
    gr.mount_gradio_app(app, blocks, "/", app_kwargs=app_kwargs, root_path=root_path, **MOUNT, **page)
    gradio_adapter.set_up(blocks)
    app.state.live_channel = live
    return app


class Server(uvicorn.Server):
    """A uvicorn server that prints its URL once it answers, and lets go of all pages before it shuts down."""

    def __init__(self, app: FastAPI, url: str) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                lifespan="on",
                log_config=None,  # uvicorn's records go to our own handlers
                access_log=False,
                proxy_headers=False,  # LIVE_NETS_PROXIES controls which forwarding headers are trusted
                timeout_graceful_shutdown=GRACE_SECONDS,
                ws=BoundedWebSocket,
                ws_max_size=live_channel.LARGEST_MESSAGE,
                ws_ping_interval=live_channel.PING_SECONDS,
                ws_ping_timeout=live_channel.PING_SECONDS,
                ws_per_message_deflate=False,  # takes more time than the frames themselves
            )
        )
        self._app = app
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"* Running on {self._url}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()  # no new connections: a proxy sends visitors to another replica
        self._app.state.live_channel.close_all()  # pages connect to another replica, and go on
        event_readers.end_all()
        await super().shutdown(sockets)


def serve(app: FastAPI, host: str, port: int, sockets: Sequence[socket.socket]) -> None:
    """Serve until the process gets SIGTERM or SIGINT. Exits with status 3 if the app does not start."""
    Server(app, f"http://{host}:{port}/").run(list(sockets))
