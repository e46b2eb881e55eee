"""Background tasks of the app: worker pool, frame rate, and deletion of old files and idle runs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import gradio as gr
from fastapi import FastAPI

from export import VERSION
from runs import pace, pool, registry
from server import gradio_adapter, temporary_files
from server.health import INSTANCE
from server.settings import worker_count

IDLE_SWEEP_SECONDS = 15
_log = logging.getLogger(__name__)


def lifespan(blocks: gr.Blocks) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The lifespan of the app that serves these blocks."""

    @asynccontextmanager
    async def serving(app: FastAPI) -> AsyncIterator[None]:
        async with pool.opened(worker_count()):
            tasks = [asyncio.create_task(work) for work in (pace.keep(), _sweep_files(), _sweep_pages(blocks))]
            _log.info("server started version=%s instance=%s", VERSION, INSTANCE)
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        _log.info("server stopped")

    return serving


async def _sweep_files() -> None:
    while True:
        await asyncio.sleep(temporary_files.SWEEP_SECONDS)
        try:
            removed = await asyncio.to_thread(temporary_files.sweep)
        except OSError:  # a disk error may be temporary
            _log.exception("old files not removed")
        else:
            if removed:
                _log.info("old files removed folders=%d", removed)


async def _sweep_pages(blocks: gr.Blocks) -> None:
    while True:
        await asyncio.sleep(IDLE_SWEEP_SECONDS)
        try:
            registry.delete_idle()
            gradio_adapter.sweep(blocks)
        except Exception:  # noqa: BLE001  # later sweeps must still run
            _log.exception("idle runs and pages not removed")
