"""The ASGI application: Gradio's page, mounted in FastAPI behind the request filter and the response cache."""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from runs import admission
from server import gradio_adapter, health, lifespan
from server.connection import BoundedConnection
from server.request_filter import RequestFilter
from server.response_cache import ResponseCache

GRACE_SECONDS = 1  # that open connections have to end by themselves at shutdown

# Events that Gradio may run at once. A run in training is one for all its time, as is one in the line.
MOST_EVENTS = admission.MOST_TRAINING + admission.LONGEST_LINE + 200

MOUNT: dict[str, Any] = {
    "ssr_mode": False,  # needs Node.js, and shows the charts later
    "run_history": False,  # runs are the visitor's own
    "enable_monitoring": False,  # would list all visitors' events
    "show_error": False,  # gr.Error is shown all the same; other exceptions belong in the log
    "max_file_size": "1kb",  # nothing is uploaded
    "allowed_paths": [],  # beyond Gradio's cache, no file is served
    "footer_links": ["api"],
    "pwa": False,
    "mcp_server": False,
}


def create(
    blocks: gr.Blocks, routes: Sequence[BaseRoute] = (), cached: Callable[[str], bool] = lambda path: False, **page: Any
) -> FastAPI:
    """The application that serves these blocks and routes.

    `cached` says which further paths have the same response for everyone. `page` are options of
    `gr.mount_gradio_app`, such as `theme` and `head`.
    """
    root_path = os.environ.get("GRADIO_ROOT_PATH", "")
    app = FastAPI(
        root_path=root_path,
        lifespan=lifespan.lifespan(blocks),
        routes=[Route("/health", health.route(blocks)), *routes],
        middleware=[Middleware(RequestFilter, blocks=blocks), Middleware(ResponseCache, cached=cached)],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app_kwargs = {"docs_url": None, "redoc_url": None}
    gr.mount_gradio_app(app, blocks, "/", app_kwargs=app_kwargs, root_path=root_path, **MOUNT, **page)
    gradio_adapter.make_stateless(blocks, MOST_EVENTS)
    return app


class Server(uvicorn.Server):
    """A uvicorn server that prints its URL once it answers, and ends the runs before it closes connections."""

    def __init__(self, app: FastAPI, url: str = "") -> None:
        super().__init__(
            # log_config=None: uvicorn's records go to our own handlers.
            uvicorn.Config(app, http=BoundedConnection, log_config=None, timeout_graceful_shutdown=GRACE_SECONDS)
        )
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self._url:
            print(f"* Running on {self._url}", flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await lifespan.end_runs()
        await super().shutdown(sockets)


def serve(app: FastAPI, host: str, port: int, sockets: Sequence[socket.socket]) -> None:
    """Serve until the process gets SIGTERM or SIGINT. Exits with a message if the app does not start."""
    server = Server(app, f"http://{host}:{port}/")
    server.run(list(sockets))
    if not server.started:
        sys.exit("The server did not start; see the log above.")
