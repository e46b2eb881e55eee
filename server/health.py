"""GET /health: whether this replica is healthy, and its load."""

import secrets
from collections.abc import Awaitable, Callable

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse

from export import VERSION
from runs import admission, pace, pool, registry
from server import gradio_adapter
from server.settings import worker_count

INSTANCE = secrets.token_hex(4)  # tells replicas apart


def route(blocks: gr.Blocks) -> Callable[[Request], Awaitable[JSONResponse]]:
    """The handler of /health. Its status is 503 if no worker is alive or Gradio's queue has stopped."""

    async def health(request: Request) -> JSONResponse:
        alive = len(pool.workers())
        content = {
            "version": VERSION,
            "instance": INSTANCE,
            "workers": alive,
            "runs": admission.training_count(),
            "waiting": admission.waiting_count(),
            "kept": registry.count(),
            "frames_per_second": round(25 / pace.largest_stretch(), 1),
        }
        healthy = gradio_adapter.queue_works(blocks) and (alive or not worker_count())
        return JSONResponse(content, 200 if healthy else 503, {"Cache-Control": "no-store"})

    return health
